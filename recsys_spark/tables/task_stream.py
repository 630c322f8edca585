"""The type of transformations of Arrow batches in a task, and columns with one value in every row."""

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

TaskStats = dict[str, Any]

ArrowTransform = Callable[[Iterator[pa.RecordBatch], TaskStats], Iterator[pa.RecordBatch]]
"""Turns the batches of a task into those of a table, and fills the stats that the driver gets of the task (JSON)."""


def with_constant_columns(rows: pa.RecordBatch, constant_columns: dict[str, Any]) -> pa.RecordBatch:
    """Append columns with one value in every row."""
    for name, value in constant_columns.items():
        rows = rows.append_column(name, pa.repeat(pa.scalar(value), rows.num_rows))
    return rows
