"""Configuration keys of the Top-K join."""

from datetime import date
from typing import Literal

from pydantic import Field

from recsys_spark.runtime.config import JobConfig


class JoinOptions(JobConfig):
    """List length and sizes of the join. Sizes change memory and time, but no row of the result."""

    k: int = Field(10, ge=1, description="list length")
    min_score: float | None = Field(None, description="items with a lower score are not listed")
    user_block_rows: int = Field(16_384, ge=1, description="users that a task scores at once")
    item_block_rows: int = Field(65_536, ge=1, description="items of a block, of which a task holds one at a time")
    tasks: int | None = Field(
        None,
        ge=1,
        description="user partitions of the Top-K join; default: a multiple of the cores, by user_block_rows",
    )


class NeighborOptions(JoinOptions):
    """Keys of item neighbours."""

    k: int = Field(20, ge=1, description="neighbours of an item")
    match_on: Literal["category", "brand", "locale"] | None = Field(
        None,
        description="list only items of equal value (of a category path its end); a missing value matches nothing",
    )
    run_date: date | None = Field(
        None, description="list only items that are available on this day, YYYY-MM-DD; default: all items"
    )
