"""Relaxed whitening of text embeddings: moments in one aggregate, and application. Pure DataFrame functions."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from recsys_spark.arrays.arrow import as_lists, matrix, slices
from recsys_spark.items.kernels.whitening import Moments, Whitening

_MOMENT_DDL = "place int, units binary"

_SLICE_ROWS = 8192


def moment_rows(vectors: DataFrame) -> DataFrame:
    """``place, units``: the number of each row of ``Moments.units``, and its values (int64), for column ``embedding``.

    Each task sums its vectors; the sums of the tasks are then added row by row. Vectors of d dimensions give d + 1
    rows, for any number of vectors. Integers have the same sum in any order.
    """
    partial = vectors.select("embedding").mapInArrow(_partial_moments, _MOMENT_DDL)
    return partial.repartition("place").mapInArrow(_sum_rows, _MOMENT_DDL)


def moments_of(rows: list[tuple[int, bytes]]) -> Moments:
    """Moments from collected ``moment_rows``; no rows give the moments of no vectors."""
    units = [np.frombuffer(units, np.int64) for _, units in sorted(rows)]
    return Moments(np.stack(units) if units else np.zeros((1, 1), np.int64))


def whitened(vectors: DataFrame, key: str, whitening: Whitening) -> DataFrame:
    """``key, embedding``: whitened unit vectors, without rows that have no direction."""

    def apply(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for part in slices(batches, _SLICE_ROWS):
            units = whitening.apply(matrix(part["embedding"]))
            nonzero = np.flatnonzero(units.any(axis=1))
            columns = [part[key].combine_chunks().take(pa.array(nonzero)), as_lists(units[nonzero])]
            yield pa.RecordBatch.from_arrays(columns, names=[key, "embedding"])

    return vectors.select(key, "embedding").mapInArrow(apply, f"{key} string, embedding array<float>")


def _partial_moments(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    total: Moments | None = None
    for part in slices(batches, _SLICE_ROWS):
        moments = Moments.of(matrix(part["embedding"]))
        total = moments if total is None else total + moments
    if total is not None:
        for row, units in enumerate(total.units):
            yield one_row(_MOMENT_DDL, row, units.tobytes())


def _sum_rows(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    sums: dict[int, np.ndarray] = {}
    for batch in batches:
        for row, units in zip(batch["place"].to_pylist(), batch["units"].to_pylist(), strict=True):
            numbers = np.frombuffer(units, np.int64)
            sums[row] = numbers if row not in sums else sums[row] + numbers
    for row, total in sums.items():
        yield one_row(_MOMENT_DDL, row, total.tobytes())


def one_row(ddl: str, *values: Any) -> pa.RecordBatch:
    """An Arrow batch of one row, with the types of ``ddl``."""
    types = {"bigint": pa.int64(), "int": pa.int32(), "binary": pa.binary(), "array<string>": pa.list_(pa.string())}
    columns = [part.split() for part in ddl.split(", ")]
    arrays = [pa.array([value], types[kind]) for (_, kind), value in zip(columns, values, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=[name for name, _ in columns])
