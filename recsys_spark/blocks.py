"""Rows as blocks, so that kernels work on matrices."""

import bisect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark import TaskContext
from pyspark.sql import Column
from pyspark.sql import functions as F

from recsys_spark.errors import UsageError
from recsys_spark.kernels.vectors import unit_rows

SLICE_BYTES = 2**29
"""Of the rows that a task works on at once, at most, but for one Arrow batch."""


def is_usable(embedding: Column) -> Column:
    """True for a vector that has a direction: not null, not empty, finite, not all zero."""
    bad = F.exists(embedding, lambda x: x.isNull() | F.isnan(x) | (F.abs(x) == float("inf")))
    return F.coalesce(~bad & F.exists(embedding, lambda x: x != 0), F.lit(False))


class IdIndex:
    """Many ids, asked again and again which of them lie in an item block."""

    def __init__(self, ids: pa.Array) -> None:
        self._order = pc.sort_indices(ids)
        self._ids = ids.take(self._order)

    def matches(self, block_ids: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(places in ``ids``, places in ``block_ids``) of equal ids, ascending by the first."""
        if not len(block_ids):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        bounds = pc.min_max(block_ids).as_py()
        start, stop = self._place(bounds["min"], bisect.bisect_left), self._place(bounds["max"], bisect.bisect_right)
        found = pc.index_in(self._ids.slice(start, stop - start), value_set=block_ids)
        there = np.flatnonzero(found.is_valid().to_numpy(zero_copy_only=False))
        places = self._order.to_numpy()[start + there].astype(np.int64)
        columns = found.drop_null().to_numpy().astype(np.int64)
        order = np.argsort(places, kind="stable")
        return places[order], columns[order]

    def _place(self, value: str, side: Callable[..., int]) -> int:
        return side(range(len(self._ids)), value, key=lambda place: self._ids[place].as_py())


def slices(batches: Iterator[pa.RecordBatch], rows: int, most_bytes: int = SLICE_BYTES) -> Iterator[pa.Table]:
    """Arrow batches cut anew into tables of exactly ``rows`` rows, the last one shorter; and shorter ones where they
    would hold more than ``most_bytes``: a list of strings in Arrow ends at 2 GB."""
    held: list[pa.RecordBatch] = []
    count = size = 0
    for batch in batches:
        if held and size + batch.nbytes > most_bytes:
            yield pa.Table.from_batches(held).combine_chunks()
            held, count, size = [], 0, 0
        held.append(batch)
        count, size = count + batch.num_rows, size + batch.nbytes
        while count >= rows:
            table = pa.Table.from_batches(held)
            yield table.slice(0, rows).combine_chunks()
            rest = table.slice(rows)
            held, count, size = rest.to_batches(), rest.num_rows, rest.nbytes
    if count:
        yield pa.Table.from_batches(held).combine_chunks()


def matrix(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """A column of equally long vectors as (n, d), without Python objects.

    Raises:
        UsageError: the vectors have different lengths.
    """
    lists = column.combine_chunks()
    values = lists.flatten().to_numpy(zero_copy_only=False)
    dimension, rest = divmod(len(values), len(lists))
    lengths = np.diff(lists.offsets.to_numpy())
    if rest or (lengths != dimension).any():
        raise UsageError(
            f"vectors of {lengths.min()} and of {lengths.max()} numbers in one table: two models were mixed"
        )
    return values.reshape(len(lists), dimension)


def unit_vectors(column: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(rows that have a direction, their vectors at unit length) of a column of equally long vectors.

    Null, NaN, infinite and zero vectors have none.

    Raises:
        UsageError: the vectors have different lengths.
    """
    rows = np.flatnonzero(pc.greater(pc.fill_null(pc.list_value_length(column), 0), 0).to_numpy(zero_copy_only=False))
    if not len(rows):
        return rows, np.empty((0, 0), np.float32)
    filled = column if len(rows) == len(column) else column.take(pa.array(rows))
    vectors = matrix(pa.chunked_array([filled]))
    usable = np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)
    return rows[usable], unit_rows(vectors[usable])


def as_lists(vectors: NDArray[np.floating]) -> pa.ListArray:
    """(n, d) as a column of lists, without Python objects."""
    rows, width = vectors.shape
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32) * np.int32(width)), vectors.ravel())


def block_row(ddl: str, *values: Any) -> pa.RecordBatch:
    """One row as an Arrow batch, with the types of ``ddl``."""
    types = {"bigint": pa.int64(), "int": pa.int32(), "binary": pa.binary(), "array<string>": pa.list_(pa.string())}
    columns = [part.split() for part in ddl.split(", ")]
    arrays = [pa.array([value], types[kind]) for (_, kind), value in zip(columns, values, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=[name for name, _ in columns])


def partition() -> int:
    """The partition that this task works on."""
    context = TaskContext.get()
    return context.partitionId() if context else 0
