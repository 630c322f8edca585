"""Arrow columns as NumPy matrices and back, and record batches cut to tables of a given size."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys_spark.arrays.vectors import unit_rows
from recsys_spark.errors import UsageError

SLICE_BYTES = 2**29
"""Upper bound of the rows that a task works on at once, unless a single Arrow batch is larger."""


def slices(batches: Iterator[pa.RecordBatch], rows: int, most_bytes: int = SLICE_BYTES) -> Iterator[pa.Table]:
    """Recut Arrow batches into tables of exactly ``rows`` rows; the last one may be shorter.

    A table also ends before it exceeds ``most_bytes``, because an Arrow list of strings must stay below 2 GB.
    """
    pending: list[pa.RecordBatch] = []
    count = size = 0
    for batch in batches:
        if pending and size + batch.nbytes > most_bytes:
            yield pa.Table.from_batches(pending).combine_chunks()
            pending, count, size = [], 0, 0
        pending.append(batch)
        count, size = count + batch.num_rows, size + batch.nbytes
        while count >= rows:
            table = pa.Table.from_batches(pending)
            yield table.slice(0, rows).combine_chunks()
            rest = table.slice(rows)
            pending, count, size = rest.to_batches(), rest.num_rows, rest.nbytes
    if count:
        yield pa.Table.from_batches(pending).combine_chunks()


def matrix(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """(n, d) matrix of a column of equally long vectors, without Python objects.

    Raises:
        UsageError: the vectors have different lengths.
    """
    lists = column.combine_chunks()
    values = lists.flatten().to_numpy(zero_copy_only=False)
    dimension, rest = divmod(len(values), len(lists))
    lengths = np.diff(lists.offsets.to_numpy())
    if rest or (lengths != dimension).any():
        raise UsageError(
            f"one table has vectors of {lengths.min()} and of {lengths.max()} dimensions: it mixes two models"
        )
    return values.reshape(len(lists), dimension)


def unit_vectors(column: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(row numbers of usable vectors, (n, d) these vectors at unit length) of a column of equally long vectors.

    Null, empty, NaN, infinite and zero vectors are not usable.

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


def as_lists(vectors: NDArray[np.number]) -> pa.ListArray:
    """Column of lists from an (n, d) matrix, without Python objects."""
    rows, width = vectors.shape
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32) * np.int32(width)), vectors.ravel())
