"""Temporary tables: narrow rows that a step computes once and reads more than once."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.lake.lake import Lake
from recsys_spark.lake.plain_files import drop_blocks
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import Table

_BROADCAST_ROWS = 200_000
"""Largest temporary table of which every task gets a copy."""


@dataclass(frozen=True)
class TempTable:
    """Rows in temporary files, their number, and the URIs of the files."""

    frame: DataFrame
    rows: int
    uris: tuple[str, ...]


@contextmanager
def materialized(run: Run, frame: DataFrame, *, broadcast: bool = True) -> Iterator[TempTable]:
    """Write ``frame`` to files next to the lake's tables, and remove them at the end.

    A cache is no alternative. It is computed again wherever the planner does not recognise it or an executor is lost.
    Its size is unknown to the planner, which then shuffles the many rows that are joined with these few; the size of
    files is known. ``broadcast``: every task gets a copy of few rows, which no outer join can use that keeps them all.
    Files of a killed run stay below ``_blocks``, where vacuum_lake and forget_users remove them.
    """
    scratch, table = Lake(f"{run.lake.uri}/_blocks/scratch"), Table(uuid.uuid4().hex, dict(frame.dtypes), ())
    staged = scratch.stage(frame, table)
    rows = scratch.read_staged(run.spark, staged)
    uris = tuple(f"{scratch.table_uri(table)}/{action.path}" for action in staged.actions)
    try:
        yield TempTable(F.broadcast(rows) if broadcast and staged.rows <= _BROADCAST_ROWS else rows, staged.rows, uris)
    finally:
        drop_blocks(scratch.table_uri(table))
