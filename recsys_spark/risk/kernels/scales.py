"""Scales of figures from their histograms: peers, robust z-scores, surprise of the upper tail, a shrunk covariance.

A figure is an integer (multiples of 1 / 256); the histogram of a figure has a row for each value that occurs. All is
computed from counts, so that partitions and batches change no bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

Ints = NDArray[np.int64]

_MAD = 1.4826
"""A median absolute deviation times this is the standard deviation of a normal distribution."""

_MEAN_DEVIATION = 1.2533
"""The same for the mean absolute deviation."""

NO_FIGURE = np.iinfo(np.int32).min
"""Stands for a figure that a user does not have."""

_TAIL = (0.8, 0.9)
"""The quantiles that the upper tail is extrapolated from. Attackers are to be fewer than the users above the second."""

_LEAST_TAIL = 0.1
"""Least distance of the two, as a share of the second."""

_LEAST_WIDTH = 25.6
"""The same as a number, 0.1 units: of a figure that most users do not have, both quantiles are 0."""


@dataclass(frozen=True)
class Histogram:
    """Counts of the values of one figure, values ascending."""

    values: Ints
    counts: Ints

    @classmethod
    def of(cls, values: Sequence[int], counts: Sequence[int]) -> "Histogram":
        """Merge equal values."""
        distinct, places = np.unique(np.asarray(values, np.int64), return_inverse=True)
        merged = np.zeros(len(distinct), np.int64)
        np.add.at(merged, places, np.asarray(counts, np.int64))
        return cls(distinct, merged)

    @property
    def total(self) -> int:
        """The number of users that have the figure."""
        return int(self.counts.sum())

    def quantile(self, share: float) -> float:
        """The least value that at least ``share`` of the users do not exceed."""
        place = np.searchsorted(np.cumsum(self.counts), share * self.total - 1e-9)
        return float(self.values[min(int(place), len(self.values) - 1)])


def peer_groups(users: Mapping[int, int], least: int) -> dict[int, int]:
    """Group of each class of users, by ascending class: neighbours are joined until a group has ``least`` users.

    Args:
        users: number of users by class.
        least: users of a group; the last group takes what is left over.
    """
    groups, group, size = {}, 0, 0
    for one in sorted(users):
        groups[one], size = group, size + users[one]
        if size >= least:
            group, size = group + 1, 0
    last = max(group - 1, 0) if size else group
    return {one: min(number, last) for one, number in groups.items()}


def center_and_scale(histogram: Histogram) -> tuple[float, float]:
    """Median, and 1.4826 · median absolute deviation; where most values are equal, the mean absolute deviation.

    The scale of a figure that never varies is 0.
    """
    median = histogram.quantile(0.5)
    off = np.abs(histogram.values - median)
    around = Histogram.of(np.round(off).astype(np.int64).tolist(), histogram.counts.tolist())
    scale = _MAD * around.quantile(0.5)
    if not scale:
        scale = _MEAN_DEVIATION * float((off * histogram.counts).sum()) / histogram.total
    return median, scale


@dataclass(frozen=True)
class Tail:
    """The upper tail of a figure, exponential above the 0.8 quantile."""

    start: float
    width: float
    """Distance over which the share of users above falls by e."""

    @classmethod
    def of(cls, histogram: Histogram, floor: float = _LEAST_WIDTH) -> "Tail":
        """The tail through the 0.8 and 0.9 quantiles. ``floor``: least distance of the two."""
        low, high = (histogram.quantile(share) for share in _TAIL)
        distance = max(high - low, _LEAST_TAIL * abs(high), floor)
        return cls(low, distance / float(np.log((1 - _TAIL[0]) / (1 - _TAIL[1]))))

    def surprise(self, figures: Ints) -> Floats:
        """−ln of the estimated share of users with a greater figure, 0 up to the start (nats, float64)."""
        nats = -np.log(1 - _TAIL[0]) + (figures - self.start) / self.width
        return np.where(figures == NO_FIGURE, 0.0, np.maximum(np.where(figures <= self.start, 0.0, nats), 0.0))


def shrunk_covariance(moments: Floats, sums: Floats, n: int) -> tuple[Floats, Floats]:
    """Mean and covariance, shrunk towards a multiple of the identity: Oracle Approximating Shrinkage.

    Chen, Wiesel, Eldar, Hero, "Shrinkage Algorithms for MMSE Covariance Estimation" (IEEE TSP 58, 2010), formula 23, as
    in scikit-learn: ρ = (tr(S²)/p² + μ²) / ((n + 1)(tr(S²)/p² − μ²/p)) with μ = tr(S)/p.

    Args:
        moments: (p, p) sums of products.
        sums: (p,) sums.
        n: number of rows.
    """
    p = len(sums)
    mean = sums / n
    covariance = moments / n - np.outer(mean, mean)
    mu, alpha = np.trace(covariance) / p, float((covariance**2).mean())
    denominator = (n + 1.0) * (alpha - mu**2 / p)
    rho = 1.0 if denominator <= 0 else min((alpha + mu**2) / denominator, 1.0)
    shrunk = (1 - rho) * covariance
    shrunk[np.arange(p), np.arange(p)] += rho * mu
    return mean, shrunk


def whitener(covariance: Floats) -> Floats:
    """L with L·Lᵀ the inverse of the covariance, lower triangular."""
    return np.asarray(np.linalg.cholesky(np.linalg.inv(covariance)))


def distances(rows: Floats, mean: Floats, factor: Floats) -> Floats:
    """Mahalanobis distance of each row. Sums go over columns one after the other: no batch changes a bit."""
    total = np.zeros(len(rows))
    for column in range(factor.shape[1]):
        part = np.zeros(len(rows))
        for row in range(factor.shape[0]):
            part += (rows[:, row] - mean[row]) * factor[row, column]
        total += part * part
    return np.asarray(np.sqrt(total))
