"""Types of what a task does to Arrow batches, and columns with one value in every row."""

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

TaskStats = dict[str, Any]

ArrowTransform = Callable[[Iterator[pa.RecordBatch], TaskStats], Iterator[pa.RecordBatch]]
"""Turns the batches of a task into those of a table, and notes on the way what the driver should know of it (JSON)."""


def with_constant_columns(lists: pa.RecordBatch, constant_columns: dict[str, Any]) -> pa.RecordBatch:
    """With further columns, the same in every row."""
    for name, value in constant_columns.items():
        lists = lists.append_column(name, pa.repeat(pa.scalar(value), lists.num_rows))
    return lists
