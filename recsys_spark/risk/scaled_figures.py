"""Figures → integers, counts of them, and what kernels make of whole rows. Pure DataFrame functions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.risk.evidence import STEPS
from recsys_spark.risk.kernels.scales import NO_FIGURE, distances

_MOST = 64 * STEPS
"""Bound of a figure and of a z-score."""

Scales = Mapping[int, tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Center and scale of every figure, by class of users."""


def in_steps(figures: DataFrame, key: str, names: Sequence[str]) -> DataFrame:
    """``key, class, figures`` (array<int>): figures as multiples of 1 / 256; NO_FIGURE for null and for NaN.

    ``class`` is the whole part of log2 of ``events``.
    """
    return figures.select(
        key,
        F.floor(F.log2(F.greatest("events", F.lit(1)).cast("double")) + 1e-9).cast("int").alias("class"),
        F.array(*(_steps(F.col(name)) for name in names)).alias("figures"),
    )


def _steps(figure: Column) -> Column:
    number = figure.cast("double")
    bounded = F.greatest(F.lit(-_MOST), F.least(F.lit(_MOST), F.round(number * STEPS).cast("int")))
    return F.when(number.isNull() | F.isnan(number), F.lit(NO_FIGURE)).otherwise(bounded)


def counted_values(rows: DataFrame, column: str, by: str | None = None) -> DataFrame:
    """``class, place, value, n``: how often each value of each figure of ``column`` (array<int>) occurs, NO_FIGURE left
    out; ``class`` is the column ``by``, or 0.

    There are at most 2¹⁵ values of a figure and class, for any number of users.
    """
    group = F.lit(0) if by is None else F.col(by)
    values = rows.select(group.alias("class"), F.posexplode(column).alias("place", "value"))
    return values.where(F.col("value") != NO_FIGURE).groupBy("class", "place", "value").agg(F.count("*").alias("n"))


def z_scores(rows: DataFrame, key: str, scales: Scales) -> DataFrame:
    """``key, z`` (array<int>): z-scores in steps; NO_FIGURE where there is none or the figure never varies."""

    def scored(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            figures = _matrix(batch["figures"])
            z = np.full(figures.shape, NO_FIGURE, np.int32)
            classes = batch["class"].to_numpy()
            for one in np.unique(classes):
                center, scale = scales[int(one)]
                mine = classes == one
                part = figures[mine].astype(np.float64)
                usable = (figures[mine] != NO_FIGURE) & (scale > 0)
                steps = np.round((part - center) / np.where(scale > 0, scale, 1.0) * STEPS)
                z[mine] = np.where(usable, np.clip(steps, -_MOST, _MOST), NO_FIGURE).astype(np.int32)
            yield pa.RecordBatch.from_arrays([batch[key], _lists(z)], names=[key, "z"])

    return rows.mapInArrow(scored, f"{key} string, z array<int>")


def summed_moments(rows: DataFrame, width: int, bound: int = 8 * STEPS) -> DataFrame:
    """``sums`` (array<bigint>), one row for each task: number of rows, sums and sums of products of the z-scores, as
    the flat (width + 1, width + 1) matrix of products of a row of 1 and z; no figure is 0."""

    def summed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        total = np.zeros((width + 1, width + 1), np.int64)
        for batch in batches:
            z = _filled(_matrix(batch["z"]), bound)
            wide = np.column_stack([np.ones(len(z), np.int64), z])
            total += wide.T @ wide
        yield pa.RecordBatch.from_arrays([pa.array([total.ravel().tolist()], pa.list_(pa.int64()))], names=["sums"])

    return rows.select("z").mapInArrow(summed, "sums array<bigint>")


def with_distances(
    rows: DataFrame, key: str, mean: NDArray[np.float64], factor: NDArray[np.float64], bound: int = 8 * STEPS
) -> DataFrame:
    """``key, z, distance`` (int): the Mahalanobis distance of the z-scores, in steps."""

    def measured(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            z = _filled(_matrix(batch["z"]), bound).astype(np.float64) / STEPS
            steps = np.minimum(np.round(distances(z, mean, factor) * STEPS), _MOST).astype(np.int32)
            yield pa.RecordBatch.from_arrays([batch[key], batch["z"], pa.array(steps)], names=[key, "z", "distance"])

    return rows.mapInArrow(measured, f"{key} string, z array<int>, distance int")


def mapped(rows: DataFrame, key: str, column: str, kernel: Callable[[Any], Mapping[str, Any]], ddl: str) -> DataFrame:
    """``key`` and the columns that ``kernel`` makes of the (n, width) integers of ``column``; ``ddl``: their types."""

    def scored(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            made = kernel(_matrix(batch[column]))
            columns = [_lists(one) if one.ndim == 2 else pa.array(one) for one in made.values()]
            yield pa.RecordBatch.from_arrays([batch[key], *columns], names=[key, *made])

    return rows.mapInArrow(scored, f"{key} string, {ddl}")


def _filled(z: NDArray[np.int32], bound: int) -> NDArray[np.int64]:
    return np.where(z == NO_FIGURE, 0, np.clip(z, -bound, bound)).astype(np.int64)


def _matrix(lists: pa.ListArray) -> NDArray[np.int32]:
    return np.asarray(lists.flatten().to_numpy()).reshape(len(lists), -1) if len(lists) else np.zeros((0, 1), np.int32)


def _lists(rows: NDArray[Any]) -> pa.ListArray:
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1]
    return pa.ListArray.from_arrays(offsets, pa.array(rows.ravel()))
