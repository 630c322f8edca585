"""Configuration keys of the Top-K join."""

from datetime import date
from typing import Literal

from pydantic import Field

from recsys_spark.runtime.config import JobConfig


class JoinOptions(JobConfig):
    """Length of the lists, and how the join is cut: sizes change memory and time, never a row."""

    k: int = Field(10, ge=1, description="list length")
    min_score: float | None = Field(None, description="lower scores are not listed")
    user_block_rows: int = Field(16_384, ge=1, description="users whose lists one task makes at once")
    item_block_rows: int = Field(65_536, ge=1, description="items that a task holds at once")
    tasks: int | None = Field(
        None,
        ge=1,
        description="user partitions of the Top-K join; default: by user_block_rows, a multiple of the cores",
    )


class NeighborOptions(JoinOptions):
    """Items to items."""

    k: int = Field(20, ge=1, description="list length")
    match_on: Literal["category", "brand", "locale"] | None = Field(
        None, description="list only items whose value equals; of a path its end; a missing one equals nothing"
    )
    run_date: date | None = Field(
        None, description="list only items that are available on this day, YYYY-MM-DD; default: all"
    )
