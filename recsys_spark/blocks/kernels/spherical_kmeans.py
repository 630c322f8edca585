"""Spherical k-means: cluster unit vectors by direction."""

import numpy as np
from numpy.typing import NDArray

from recsys_spark.arrays.vectors import Matrix, unit_rows

_ROWS = 8192


def nearest_rows(vectors: Matrix, centroids: NDArray[np.floating]) -> NDArray[np.int32]:
    """(n,): for each vector the row of ``centroids`` with the greatest inner product, the first of equal ones."""
    parts = [vectors[start : start + _ROWS] @ centroids.T for start in range(0, len(vectors), _ROWS)]
    return np.concatenate([part.argmax(axis=1) for part in parts] or [np.empty(0)]).astype(np.int32)


def nearest_clusters(vectors: Matrix, centroids: Matrix, nprobe: int) -> NDArray[np.int64]:
    """(n, min(nprobe, clusters)): the clusters that each vector probes, nearest first.

    Products are in float64, so that the number of vectors does not change the result.
    """
    nprobe, wide = min(nprobe, len(centroids)), centroids.T.astype(np.float64)
    parts = [np.empty((0, nprobe), np.int64)]
    for start in range(0, len(vectors), _ROWS):
        distances = -(vectors[start : start + _ROWS] @ wide)
        nearest = np.argpartition(distances, nprobe - 1, axis=1)[:, :nprobe]
        order = np.argsort(np.take_along_axis(distances, nearest, axis=1), axis=1, kind="stable")
        parts.append(np.take_along_axis(nearest, order, axis=1))
    return np.concatenate(parts)


def spherical_kmeans(sample: Matrix, clusters: int, *, rounds: int = 10, seed: int = 0) -> Matrix:
    """(at most ``clusters``, d) unit centroids of unit vectors, by Lloyd's algorithm from randomly chosen vectors.

    A centroid stays as it is if no vector is nearest to it, or if the sum of its vectors is zero. Dhillon and Modha,
    Machine Learning 42 (2001).
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    centroids = sample[np.sort(rng.choice(len(sample), min(clusters, len(sample)), replace=False))]
    last = np.empty(0, np.int32)
    for _ in range(rounds):
        nearest = nearest_rows(sample, centroids)
        if np.array_equal(nearest, last):  # the next centroids would be the same, and so all after them
            break
        last = nearest
        order = np.argsort(nearest, kind="stable")
        present, starts = np.unique(nearest[order], return_index=True)
        sums = unit_rows(np.add.reduceat(sample[order], starts, axis=0, dtype=np.float64))
        filled = sums.any(axis=1)
        centroids[present[filled]] = sums[filled]
    return centroids
