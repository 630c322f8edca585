"""Profiles → the segment of each user, in tasks. Pure DataFrame functions."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.arrays.arrow import unit_vectors
from recsys_spark.arrays.vectors import Matrix
from recsys_spark.segments.kernels.stability import centred

_DDL = "user_id string, cluster int, similarity float"


def assigned_users(profiles: DataFrame, mean: NDArray[np.float64], centroids: Matrix) -> DataFrame:
    """``user_id, cluster, similarity``: the nearest centroid of every user whose profile has a direction.

    ``similarity``: cosine of the profile and the centroid, both without the mean of all profiles. Products are in
    float64 row by row, so that batches do not change a row.
    """
    rows = profiles.select("user_id", "embedding")
    return rows.mapInArrow(partial(_assigned, mean=mean, centroids=centroids), _DDL)


def with_segments(assigned: DataFrame, segments: Sequence[int]) -> DataFrame:
    """``user_id, segment, similarity``; ``segments``: the id by cluster."""
    ids = F.array(*(F.lit(int(one)) for one in segments))
    return assigned.select("user_id", F.element_at(ids, F.col("cluster") + 1).alias("segment"), "similarity")


def _assigned(
    batches: Iterator[pa.RecordBatch], mean: NDArray[np.float64], centroids: Matrix
) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        rows, vectors = unit_vectors(batch["embedding"])
        if not len(rows):
            continue
        cosines = np.einsum("nd,kd->nk", centred(vectors, mean).astype(np.float64), centroids.astype(np.float64))
        nearest = cosines.argmax(axis=1)
        columns = [
            batch["user_id"].take(pa.array(rows)),
            pa.array(nearest.astype(np.int32)),
            pa.array(cosines[np.arange(len(rows)), nearest].astype(np.float32)),
        ]
        yield pa.RecordBatch.from_arrays(columns, names=["user_id", "cluster", "similarity"])
