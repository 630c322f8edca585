"""Slim rows that a step computes once and needs more than once."""

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

_FEW = 200_000
"""Rows that every task may have a copy of."""


@dataclass(frozen=True)
class TempTable:
    """Rows in files that are there for the time being, and how many they are."""

    frame: DataFrame
    rows: int


@contextmanager
def materialized(run: Run, frame: DataFrame) -> Iterator[TempTable]:
    """``frame`` in files beside the lake's tables.

    A cache is computed again wherever the planner does not recognise it or an executor is lost, and its size is not
    known beforehand: then the many rows that a few are to meet are shuffled for their sake. Files have a size. What a
    killed run leaves is below ``_blocks``, which vacuum and forget look after.
    """
    scratch, table = Lake(f"{run.lake.uri}/_blocks/scratch"), Table(uuid.uuid4().hex, dict(frame.dtypes), ())
    staged = scratch.stage(frame, table)
    rows = scratch.read_staged(run.spark, staged)
    try:
        yield TempTable(F.broadcast(rows) if staged.rows <= _FEW else rows, staged.rows)
    finally:
        drop_blocks(scratch.table_uri(table))
