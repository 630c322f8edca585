"""Cluster the items for an approximate join."""

import numpy as np
from pyspark.sql import DataFrame

from recsys_spark.arrays.arrow import unit_vectors
from recsys_spark.arrays.vectors import Matrix
from recsys_spark.blocks.kernels.spherical_kmeans import spherical_kmeans
from recsys_spark.tables.sampling import hash_sample

_SAMPLED_PER_CLUSTER = 64


def cluster_count(requested: int | None, items: int) -> int:
    """Number of item clusters: by default the power of two nearest to 2·√items."""
    return requested or 2 ** max(0, round(np.log2(2 * max(items, 1) ** 0.5)))


def centroids(vectors: DataFrame, clusters: int, items: int, seed: int) -> Matrix:
    """Centroids of a sample of about 64 vectors a cluster, drawn by a hash of the id: it fits on the driver."""
    share = min(1.0, clusters * _SAMPLED_PER_CLUSTER / max(items, 1))
    sampled = vectors.where(hash_sample("item_id", share, buckets=1 << 40))
    sample = sampled.orderBy("item_id").select("embedding").toArrow()["embedding"].combine_chunks()
    return spherical_kmeans(unit_vectors(sample)[1], clusters, seed=seed)
