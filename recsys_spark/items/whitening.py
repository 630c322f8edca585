"""Relaxed whitening of text embeddings: its moments in one aggregate, and its application. Pure DataFrame functions."""

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
    """``place, units``: the rows of ``Moments.units`` (int64) of the column ``embedding``.

    Each task sums what it reads, then row by row the sums of the tasks: as many rows as a vector has numbers, and one,
    whatever the number of vectors. Whole numbers add up to the same in any order.
    """
    partial = vectors.select("embedding").mapInArrow(_partial_moments, _MOMENT_DDL)
    return partial.repartition("place").mapInArrow(_sum_places, _MOMENT_DDL)


def moments_of(rows: list[tuple[int, bytes]]) -> Moments:
    """The moments that collected ``moment_rows`` make; of no rows, those of no vectors."""
    units = [np.frombuffer(units, np.int64) for _, units in sorted(rows)]
    return Moments(np.stack(units) if units else np.zeros((1, 1), np.int64))


def whitened(vectors: DataFrame, key: str, whitening: Whitening) -> DataFrame:
    """``key, embedding``: whitened unit vectors, rows without a direction left out."""

    def apply(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for part in slices(batches, _SLICE_ROWS):
            white = whitening.apply(matrix(part["embedding"]))
            there = np.flatnonzero(white.any(axis=1))
            columns = [part[key].combine_chunks().take(pa.array(there)), as_lists(white[there])]
            yield pa.RecordBatch.from_arrays(columns, names=[key, "embedding"])

    return vectors.select(key, "embedding").mapInArrow(apply, f"{key} string, embedding array<float>")


def _partial_moments(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    total: Moments | None = None
    for part in slices(batches, _SLICE_ROWS):
        found = Moments.of(matrix(part["embedding"]))
        total = found if total is None else total + found
    if total is not None:
        for place, units in enumerate(total.units):
            yield block_row(_MOMENT_DDL, place, units.tobytes())


def _sum_places(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    sums: dict[int, np.ndarray] = {}
    for batch in batches:
        for place, units in zip(batch["place"].to_pylist(), batch["units"].to_pylist(), strict=True):
            found = np.frombuffer(units, np.int64)
            sums[place] = found if place not in sums else sums[place] + found
    for place, total in sums.items():
        yield block_row(_MOMENT_DDL, place, total.tobytes())


def block_row(ddl: str, *values: Any) -> pa.RecordBatch:
    """One row as an Arrow batch, with the types of ``ddl``."""
    types = {"bigint": pa.int64(), "int": pa.int32(), "binary": pa.binary(), "array<string>": pa.list_(pa.string())}
    columns = [part.split() for part in ddl.split(", ")]
    arrays = [pa.array([value], types[kind]) for (_, kind), value in zip(columns, values, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=[name for name, _ in columns])
