"""Configuration keys of a comparison of scorers."""

from datetime import date
from typing import Literal

from pydantic import Field, field_validator

from recsys_spark.encode.options import EncoderOptions
from recsys_spark.evaluate.steps.search_grids import DEFAULT_GRIDS, GRIDS
from recsys_spark.events.options import EventOptions
from recsys_spark.ingest.options import IngestOptions
from recsys_spark.runtime.config import formerly


class ComparisonOptions(IngestOptions, EncoderOptions, EventOptions):
    """The data set, the protocol and the scorers of a comparison."""

    lake: str = Field(
        "lake/evaluation", description="lake for the tables of the data set; the next run reuses its embeddings"
    )
    run_date: date = Field(date(2100, 1, 1), description="use events before this day, YYYY-MM-DD")
    protocol: Literal["leave_one_out", "temporal", "cold_items", "new_users"] | None = Field(
        None,
        description="split of the events (evaluate/README, Protocols); default: temporal if events have real times, "
        "otherwise leave_one_out",
    )
    scorers: str = Field(
        ",".join(DEFAULT_GRIDS),
        description="scorers to compare, separated by commas; also available: "
        + ", ".join(sorted(set(GRIDS) - set(DEFAULT_GRIDS))),
    )
    metrics_k: int = Field(
        10,
        ge=1,
        description="cut-off k of the metrics: only the first k positions of a list count",
        json_schema_extra=formerly("at"),
    )
    refit: bool = Field(True, description="fit again before the test, with the validation events too")
    mask_seen: bool = Field(True, description="leave items of a user's history out of the ranking")
    seen_targets: Literal["miss", "rank"] = Field(
        "miss",
        description="with mask_seen, a later event about an item of the history: miss counts it as not found, as in "
        "lists that never show it again; rank leaves it among the candidates, as many papers do",
    )
    valid_from: date | None = Field(
        None,
        description="temporal: first day of validation; default: the day on which the last fifth of the events begins",
    )
    test_from: date | None = Field(
        None,
        description="temporal: first day of the test; default: the day on which the last tenth of the events begins",
    )
    windows: int = Field(
        1, ge=1, le=8, description="temporal: number of tests, each of the tenth of the events before the next one"
    )
    max_history: int = Field(1000, ge=1, description="use the N most recent events of each user")
    shuffle_ties: int | None = Field(
        None,
        description="seed that orders events of a user at the same time by a hash; default: by item id, which may be "
        "an order that scorers learn",
    )
    replicates: int = Field(200, ge=2, description="bootstrap replicates of the users, for 95 % intervals")
    seed: int = Field(
        0,
        description="random seed of the bootstrap, of protocols that sample items or users, and of the sample of test "
        "ratings",
    )

    @field_validator("scorers")
    @classmethod
    def _check_scorers(cls, names: str) -> str:
        if unknown := sorted(set(names.split(",")) - set(GRIDS)):
            raise ValueError(f"unknown scorer: {', '.join(unknown)}; the scorers are {', '.join(GRIDS)}")
        return names
