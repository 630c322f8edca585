"""Configuration keys of the Top-K join."""

from datetime import date
from typing import Literal

from pydantic import Field

from recsys_spark.runtime.config import JobConfig


class JoinOptions(JobConfig):
    """List length and block sizes of the join.

    Block sizes change memory and time, but no row of the result.
    """

    k: int = Field(10, ge=1, description="number of items in a list")
    min_score: float | None = Field(None, description="minimum score; items below it are not listed")
    user_block_rows: int = Field(16_384, ge=1, description="number of users that a task scores at once")
    item_block_rows: int = Field(
        65_536, ge=1, description="number of items per block; a task holds one block in memory at a time"
    )
    tasks: int | None = Field(
        None,
        ge=1,
        description="number of user partitions of the Top-K join; default: a multiple of the cores, by user_block_rows",
    )


class NeighborOptions(JoinOptions):
    """Keys of item neighbours."""

    k: int = Field(20, ge=1, description="number of neighbours per item")
    match_on: Literal["category", "brand", "locale"] | None = Field(
        None,
        description="list only neighbours with the same value in this column (category: the last name of the path); a "
        "missing value matches nothing",
    )
    run_date: date | None = Field(
        None, description="list only neighbours that are available on this day, YYYY-MM-DD; default: all neighbours"
    )
