"""Segments by k-means, and how much refits on bootstrap samples agree with them."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from recsys_spark.arrays.vectors import Matrix, unit_rows
from recsys_spark.blocks.kernels.spherical_kmeans import nearest_rows, spherical_kmeans

Floats = NDArray[np.float64]

_STARTS = 16

_ROUNDS = 25


def centred(vectors: NDArray[np.floating], mean: Floats) -> Matrix:
    """(n, d) unit vectors of the differences from the ``mean``. Profiles are similar to each other; what sets them
    apart is the rest."""
    return unit_rows(vectors.astype(np.float64) - mean)


def fitted_centroids(sample: Matrix, count: int, seed: int) -> Matrix:
    """(at most ``count``, d) centroids of unit vectors: the best of some starts of spherical k-means, by the sum of
    cosines."""
    fits = [spherical_kmeans(sample, count, rounds=_ROUNDS, seed=seed * _STARTS + start) for start in range(_STARTS)]
    return max(fits, key=lambda centroids: float((sample @ centroids.T).max(axis=1).sum()))


def adjusted_rand_index(one: NDArray[np.integer], other: NDArray[np.integer]) -> float:
    """Agreement of two groupings of the same n rows over all pairs: 1 if equal, 0 on average by chance (Hubert and
    Arabie, Journal of Classification 2, 1985).

    ``one``, ``other``: (n,) groups from 0.
    """
    table = np.zeros((one.max(initial=0) + 1, other.max(initial=0) + 1))
    np.add.at(table, (one, other), 1)
    both, rows, columns = (_pairs(counts) for counts in (table, table.sum(axis=1), table.sum(axis=0)))
    expected = rows * columns / max(_pairs(np.array([float(len(one))])), 1.0)
    most = (rows + columns) / 2
    return 1.0 if most == expected else float((both - expected) / (most - expected))


def stability(sample: Matrix, centroids: Matrix, refits: int, seed: int) -> float:
    """Mean adjusted Rand index between the segments of a sample and those of refits on bootstrap samples of it."""
    groups, values = nearest_rows(sample, centroids), []
    for number in range(refits):
        rng = np.random.Generator(np.random.PCG64([seed, len(centroids), number]))
        drawn = sample[np.sort(rng.integers(0, len(sample), len(sample)))]
        again = fitted_centroids(drawn, len(centroids), seed + 1 + number)
        values.append(adjusted_rand_index(groups, nearest_rows(sample, again)))
    return float(np.mean(values))


def chosen_segments(
    sample: Matrix, counts: Iterable[int], least: float, refits: int, seed: int
) -> tuple[Matrix, dict[int, float]]:
    """The centroids of the first of ``counts`` whose stability reaches ``least``, otherwise of the most stable count;
    and the stability of each count that was tried."""
    tried: dict[int, float] = {}
    fits: dict[int, Matrix] = {}
    for count in counts:
        fits[count] = fitted_centroids(sample, count, seed)
        tried[count] = stability(sample, fits[count], refits, seed)
        if tried[count] >= least:
            return fits[count], tried
    best = max(tried, key=lambda count: (tried[count], count))
    return fits[best], tried


def _pairs(counts: Floats) -> float:
    return float((counts * (counts - 1) / 2).sum())
