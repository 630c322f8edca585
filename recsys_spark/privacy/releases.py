"""Rows of private releases: noisy profiles, mean profiles of groups, users of items. Pure DataFrame functions.

Two data sets are neighbours if the data of one user differ, or if one user is in only one of them.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.arrays.arrow import as_lists, matrix
from recsys_spark.privacy.kernels.gaussian import GRID, clipped_grid, noisy
from recsys_spark.privacy.kernels.projection import Projection
from recsys_spark.tables.task_stream import ArrowTransform, TaskStats, with_constant_columns

Constants = dict[str, float | str | None]

PROFILE_SENSITIVITY = 2.0 * GRID
"""L2 sensitivity of the profile of one user, in steps of the grid."""


def mean_sensitivity(groups_per_user: int) -> float:
    """L2 sensitivity of sums of profiles and numbers of users, in steps of the grid.

    A user is in at most ``groups_per_user`` groups, and adds a vector of norm GRID and a count of GRID to each.
    """
    return 2.0 * math.sqrt(2.0 * groups_per_user) * GRID


def count_sensitivity(items_per_user: int) -> float:
    """L2 sensitivity of the numbers of users of all items: the user who is exchanged counts for at most
    ``items_per_user`` items, and so does the other one, for different items."""
    return math.sqrt(2.0 * items_per_user)


@dataclass(frozen=True, eq=False)
class Shape:
    """How a profile becomes integers: on the axes of ``projection`` if there is one, shortened to the norm ``clip``."""

    clip: float
    projection: Projection | None = None

    def grid(self, column: pa.Array) -> NDArray[np.int64]:
        """(n, k) integers of a column of profiles."""
        vectors = matrix(pa.chunked_array([column]))
        return clipped_grid(vectors if self.projection is None else self.projection.project(vectors), self.clip)

    def vectors(self, grid: NDArray[np.floating] | NDArray[np.int64]) -> NDArray[np.float64]:
        """(n, d) vectors of (n, k) numbers on the grid."""
        coordinates = grid.astype(np.float64) * (self.clip / GRID)
        return coordinates if self.projection is None else self.projection.restore(coordinates)


def noisy_profile_rows(shape: Shape, scale: float, columns: Sequence[str], constants: Constants) -> ArrowTransform:
    """``user_id, model, embedding`` → the same with noise, and the ``constants``, in the order of ``columns``."""

    def transform(batches: Iterator[pa.RecordBatch], stats: TaskStats) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if not batch.num_rows:
                continue
            vectors = as_lists(shape.vectors(noisy(shape.grid(batch["embedding"]), scale)).astype("float32"))
            rows = batch.drop_columns(["embedding"]).append_column("embedding", vectors)
            yield with_constant_columns(rows, constants).select(list(columns))

    return transform


def group_sums(profiles: DataFrame, users: DataFrame, groups: Sequence[str], most: int, shape: Shape) -> DataFrame:
    """``group, position, total``: exact sums of clipped profiles, in steps of the grid, by group and dimension; at
    ``position`` −1 the number of users, times GRID.

    A user takes part in the first ``most`` of the named ``groups`` that it has, in the order of their names.
    """
    named = F.array_sort(F.array_intersect("groups", F.array(*map(F.lit, groups))))
    member = users.select("user_id", F.explode(F.slice(named, 1, most)).alias("group"))
    grid = profiles.select("user_id", "embedding").mapInArrow(_as_grid(shape), "user_id string, grid array<bigint>")
    counted = F.concat(F.array(F.lit(GRID).cast("bigint")), F.col("grid"))
    spread = grid.join(member, on="user_id", how="inner").select("group", F.posexplode(counted))
    return spread.groupBy("group", (F.col("pos") - 1).alias("position")).agg(F.sum("col").alias("total"))


def _as_grid(shape: Shape) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def transform(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if batch.num_rows:
                grid = as_lists(shape.grid(batch["embedding"]))
                yield pa.RecordBatch.from_arrays([batch["user_id"], grid], ["user_id", "grid"])

    return transform


def item_users(events: DataFrame, items: DataFrame, most: int) -> DataFrame:
    """``item_id, users``: for every item of the catalogue, the users with an event about it. A user counts for at most
    ``most`` items, chosen by a hash."""
    pairs = events.join(items.select("item_id"), on="item_id", how="left_semi").select("user_id", "item_id").distinct()
    order = Window.partitionBy("user_id").orderBy(F.xxhash64("user_id", "item_id"), "item_id")
    counted = pairs.withColumn("number", F.row_number().over(order)).where(F.col("number") <= most)
    users = counted.groupBy("item_id").agg(F.count("*").alias("users"))
    return items.select("item_id").join(users, on="item_id", how="left").fillna(0, ["users"])


def noisy_count_rows(scale: float, columns: Sequence[str], constants: Constants) -> ArrowTransform:
    """``item_id, users`` → the same with noise, which may be negative, and the ``constants``."""

    def transform(batches: Iterator[pa.RecordBatch], stats: TaskStats) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if batch.num_rows:
                drawn = noisy(batch["users"].to_numpy(zero_copy_only=False), scale)
                rows = pa.RecordBatch.from_arrays([batch["item_id"], pa.array(drawn)], ["item_id", "users"])
                yield with_constant_columns(rows, constants).select(list(columns))

    return transform
