"""Configuration keys of the ranker of the default lists."""

from typing import Literal

from pydantic import Field

from recsys_spark.events.options import RelevanceOptions
from recsys_spark.hybrid.options import WeightOptions


class RankerOptions(RelevanceOptions):
    """Ranker of the default lists."""

    repeats: Literal["auto", "allow", "mask"] = Field(
        "auto",
        description="auto: whether items that a user had may be listed again; by default measured on the days before "
        "run_date",
    )
    popular_items: int = Field(
        100, ge=1, description="auto: candidates of every user by recent popularity, at each of three half-lives"
    )
    history_items: int = Field(100, ge=1, description="auto: candidates of a user by the hybrid score of the history")
    window_days: int | None = Field(
        None,
        ge=1,
        description="auto: number of days before run_date whose events the ranker learns from; default: the fewest of "
        "7, 14, 30, 60, 90, 180 and 365 in which 150 users chose something, at most a quarter of the log",
    )
    ranker_users: int = Field(
        10_000, ge=2, description="auto: greatest number of users that the ranker learns from, drawn by a hash"
    )
    ranker_seed: int = Field(0, ge=0, description="auto: seed of the ranker and of its sample of users")


class AutoOptions(WeightOptions, RankerOptions):
    """Keys of the default lists: item weights and the ranker."""
