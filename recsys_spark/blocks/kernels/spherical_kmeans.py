"""Spherical k-means: directions that unit vectors gather around."""

import numpy as np
from numpy.typing import NDArray

from recsys_spark.arrays.vectors import Matrix, unit_rows

_ROWS = 8192


def nearest_rows(vectors: Matrix, centroids: NDArray[np.floating]) -> NDArray[np.int32]:
    """(n,): the row of ``centroids`` of greatest inner product for each vector, the first of equal ones."""
    parts = [vectors[start : start + _ROWS] @ centroids.T for start in range(0, len(vectors), _ROWS)]
    return np.concatenate([part.argmax(axis=1) for part in parts] or [np.empty(0)]).astype(np.int32)


def nearest_lists(vectors: Matrix, centroids: Matrix, nprobe: int) -> NDArray[np.int64]:
    """(n, min(nprobe, lists)): the lists that a vector meets, the nearest first. Products in float64: the same whatever
    the number of vectors."""
    nprobe, wide = min(nprobe, len(centroids)), centroids.T.astype(np.float64)
    found = [np.empty((0, nprobe), np.int64)]
    for start in range(0, len(vectors), _ROWS):
        far = -(vectors[start : start + _ROWS] @ wide)
        some = np.argpartition(far, nprobe - 1, axis=1)[:, :nprobe]
        order = np.argsort(np.take_along_axis(far, some, axis=1), axis=1, kind="stable")
        found.append(np.take_along_axis(some, order, axis=1))
    return np.concatenate(found)


def spherical_kmeans(sample: Matrix, lists: int, *, rounds: int = 10, seed: int = 0) -> Matrix:
    """(at most ``lists``, d) unit centroids of unit vectors, by Lloyd's rounds from a random choice of them.

    A centroid without vectors, and one whose vectors cancel, keeps its place. Dhillon and Modha, Machine Learning 42
    (2001).
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    centroids = sample[np.sort(rng.choice(len(sample), min(lists, len(sample)), replace=False))]
    for _ in range(rounds):
        nearest = nearest_rows(sample, centroids)
        order = np.argsort(nearest, kind="stable")
        present, starts = np.unique(nearest[order], return_index=True)
        sums = unit_rows(np.add.reduceat(sample[order], starts, axis=0, dtype=np.float64))
        filled = sums.any(axis=1)
        centroids[present[filled]] = sums[filled]
    return centroids
