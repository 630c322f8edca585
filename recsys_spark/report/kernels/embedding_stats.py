"""What a cloud of vectors looks like: a map of it, how much it points one way, how few vectors are everybody's
neighbours."""

import numpy as np
from numpy.typing import NDArray

from recsys_spark.arrays.vectors import unit_rows

Wide = NDArray[np.float64]


def principal_map(vectors: NDArray[np.floating]) -> tuple[Wide, float]:
    """((n, 2) the first two principal axes, the share of the variance that they show).

    Each axis points where its largest coordinate is positive, so that the same vectors give the same map.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    first = axes[:, ::-1][:, :2]
    first = first * np.sign(first[np.abs(first).argmax(axis=0), range(first.shape[1])])
    found = np.zeros((len(vectors), 2))
    found[:, : first.shape[1]] = centred @ first
    whole = values.sum()
    return found, float(values[::-1][:2].sum() / whole) if whole > 0 else 0.0


def anisotropy(vectors: NDArray[np.floating]) -> float:
    """The mean cosine of two different rows: 0 where directions are spread evenly, 1 where all are one."""
    units = unit_rows(vectors).astype(np.float64)
    total = units.sum(axis=0)
    n = len(units)
    return float((total @ total - n) / (n * (n - 1))) if n > 1 else float("nan")


def nearest(vectors: NDArray[np.floating], k: int) -> NDArray[np.int64]:
    """(n, k) the rows of greatest cosine with each row, itself left out; of equals the first."""
    units = unit_rows(vectors).astype(np.float64)
    products = units @ units.T
    np.fill_diagonal(products, -np.inf)
    return np.argsort(-products, axis=1, kind="stable")[:, : min(k, len(units) - 1)]


def hubness(neighbours: NDArray[np.int64]) -> float:
    """Skewness of how often a row is among the neighbours of others (Radovanović et al., JMLR 2010): about 0 where all
    are so about equally often, large where a few hubs are neighbours of everybody."""
    counts = np.bincount(neighbours.ravel(), minlength=len(neighbours)).astype(np.float64)
    spread = counts.std()
    return float((((counts - counts.mean()) / spread) ** 3).mean()) if spread > 0 else 0.0
