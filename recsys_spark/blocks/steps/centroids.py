"""Cluster the items of an approximate join."""

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.arrays.arrow import unit_vectors
from recsys_spark.arrays.vectors import Matrix
from recsys_spark.blocks.kernels.spherical_kmeans import spherical_kmeans

_PER_LIST = 64  # sampled vectors for each centroid


def list_count(asked: int | None, items: int) -> int:
    """The number of lists: by default the power of two nearest to 2·√items."""
    return asked or 2 ** max(0, round(np.log2(2 * max(items, 1) ** 0.5)))


def centroids(vectors: DataFrame, lists: int, items: int, seed: int) -> Matrix:
    """Directions of a sample of at most about 64 vectors a list, picked by a hash of the id: it fits on the driver."""
    share = min(1.0, lists * _PER_LIST / max(items, 1))
    picked = vectors.where(F.pmod(F.xxhash64("item_id"), F.lit(1 << 40)) < int(share * (1 << 40)))
    sample = picked.orderBy("item_id").select("embedding").toArrow()["embedding"].combine_chunks()
    return spherical_kmeans(unit_vectors(sample)[1], lists, seed=seed)
