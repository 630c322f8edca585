"""Statistics of an embedding space: principal axes, anisotropy, nearest neighbours, hubness."""

import numpy as np
from numpy.typing import NDArray

from recsys_spark.arrays.vectors import unit_rows

Float64Array = NDArray[np.float64]


def principal_map(vectors: NDArray[np.floating]) -> tuple[Float64Array, float]:
    """((n, 2) coordinates on the first two principal axes, their share of the variance).

    The sign of an axis makes its largest coefficient positive, so that the same vectors give the same map.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    first = axes[:, ::-1][:, :2]
    first = first * np.sign(first[np.abs(first).argmax(axis=0), range(first.shape[1])])
    coordinates = np.zeros((len(vectors), 2))
    coordinates[:, : first.shape[1]] = centred @ first
    total = values.sum()
    return coordinates, float(values[::-1][:2].sum() / total) if total > 0 else 0.0


def anisotropy(vectors: NDArray[np.floating]) -> float:
    """Mean cosine of two different rows: 0 if directions are spread evenly, 1 if all are equal; NaN for one row."""
    units = unit_rows(vectors).astype(np.float64)
    total = units.sum(axis=0)
    n = len(units)
    return float((total @ total - n) / (n * (n - 1))) if n > 1 else float("nan")


def nearest(vectors: NDArray[np.floating], k: int) -> NDArray[np.int64]:
    """(n, k) row numbers of the greatest cosines with each row, without itself; ties: the first."""
    units = unit_rows(vectors).astype(np.float64)
    products = units @ units.T
    np.fill_diagonal(products, -np.inf)
    return np.argsort(-products, axis=1, kind="stable")[:, : min(k, len(units) - 1)]


def hubness(neighbours: NDArray[np.int64]) -> float:
    """Skewness of the k-occurrence, how often a row is among the neighbours of others (Radovanović et al., JMLR 2010).

    About 0 if all rows occur about equally often; large if a few hubs are neighbours of most rows.
    """
    counts = np.bincount(neighbours.ravel(), minlength=len(neighbours)).astype(np.float64)
    spread = counts.std()
    return float((((counts - counts.mean()) / spread) ** 3).mean()) if spread > 0 else 0.0
