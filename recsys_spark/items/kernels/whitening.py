"""Relaxed whitening: scale the principal axes of text embeddings towards equal variance."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_spark.arrays.vectors import Matrix, unit_rows
from recsys_spark.errors import InputError

_UNIT = 2.0**16
"""Moments are integers: a coordinate in units of 2⁻¹⁶, a product of two in units of 2⁻³². Their sums are exact up to
2²¹ rows in float64 and up to 2³¹ in int64, so the order of rows, batches and tasks changes no bit."""

_SLICE = 1 << 16

_POINT = 2.0**24

_BITS = 26
"""Vectors are rounded to 2⁻²⁴, a matrix to 26 bits of its longest column. Their product needs at most 53 bits, so it is
exact in float64, and the result of a row depends on neither its batch nor the BLAS."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, sum and outer products of vectors, additive. ``units``: (d+1, d+1), Σ zzᵀ over the rows z = (1, x)."""

    units: NDArray[np.int64]

    @classmethod
    def of(cls, vectors: NDArray[np.floating]) -> "Moments":
        """Moments of the rows at unit length, without rows that have no direction."""
        width = vectors.shape[1] + 1
        units = np.zeros((width, width), np.int64)
        for start in range(0, len(vectors), _SLICE):
            part = vectors[start : start + _SLICE]
            rows = np.ones((int(_usable(part).sum()), width))
            rows[:, 1:] = unit_rows(part[_usable(part)])
            whole = np.rint(rows * _UNIT)
            units += (whole.T @ whole).astype(np.int64)
        return cls(units)

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.units + other.units)

    @property
    def count(self) -> int:
        """The number of rows."""
        return int(self.units[0, 0]) >> 32

    @property
    def mean(self) -> NDArray[np.float64]:
        """(d,) the mean vector."""
        return self.units[0, 1:] / self.units[0, 0]

    @property
    def covariance(self) -> NDArray[np.float64]:
        """(d, d) E[xxᵀ] − E[x]E[x]ᵀ."""
        return self.units[1:, 1:] / self.units[0, 0] - np.outer(self.mean, self.mean)


@dataclass(frozen=True, eq=False)
class Whitening:
    """``x ↦ (x − mean) · matrix`` at unit length; ``mean`` (d,) and ``matrix`` (d, d) are rounded by ``whitening``."""

    mean: NDArray[np.float64]
    matrix: NDArray[np.float64]

    @property
    def name(self) -> str:
        """8 hex digits of a digest of all numbers, which distinguish the vectors of two transforms."""
        return hashlib.sha256(self.mean.tobytes() + self.matrix.tobytes()).hexdigest()[:8]

    def apply(self, vectors: NDArray[np.floating]) -> Matrix:
        """(n, d) unit rows; zeros for rows that have no direction, before or after."""
        usable = _usable(vectors)
        units = unit_rows(np.where(usable[:, None], vectors, 0.0))
        centred = np.rint(units.astype(np.float64) * _POINT) / _POINT - self.mean
        return unit_rows(np.where(usable[:, None], centred @ self.matrix, 0.0))


def whitening(moments: Moments, shrink: float) -> Whitening:
    """``V (S + shrink · mean(S))^(−1/2) Vᵀ`` of the covariance ``V S Vᵀ``.

    A shrink of 0 whitens fully; large values only centre. Axes without variance get scale 0 if the shrink is 0.

    Raises:
        InputError: there are fewer than two different vectors.
    """
    values, axes = np.linalg.eigh(moments.covariance) if moments.count else (np.zeros(1), np.zeros((1, 1)))
    # Coordinates were rounded by 2⁻¹⁷ at most; a smaller spread is rounding noise.
    spread = np.where(values > (1 / _UNIT) ** 2, values, 0.0)
    if not spread.any():
        raise InputError("whitening needs items with different texts, and there are none: run without --whitening")
    shrunk = spread + shrink * spread.mean()
    scale = np.divide(1.0, np.sqrt(shrunk), out=np.zeros_like(shrunk), where=shrunk > 0)
    matrix = (axes * scale) @ axes.T
    longest = np.sqrt(np.einsum("ij,ij->j", matrix, matrix)).max()
    step = 2.0 ** (np.ceil(np.log2(longest)) - _BITS)
    return Whitening(np.rint(moments.mean * _POINT) / _POINT, np.rint(matrix / step) * step)


def _usable(vectors: NDArray[np.floating]) -> NDArray[np.bool_]:
    return np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)
