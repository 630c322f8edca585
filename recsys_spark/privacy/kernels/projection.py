"""Profiles on few axes: noise on 16 numbers protects a user as noise on 384 does, and more of the profile is left."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Projection:
    """(d,) ``mean`` and (d, k) orthonormal ``axes`` of public vectors."""

    mean: Float64Array
    axes: Float64Array

    def project(self, vectors: NDArray[np.floating]) -> Float64Array:
        """(n, k) coordinates of (n, d) vectors at unit length; rows without a direction become NaN, which clipping
        turns into zero."""
        rows = vectors.astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray((rows - self.mean) @ self.axes)

    def restore(self, coordinates: NDArray[np.floating]) -> Float64Array:
        """(n, d) vectors of (n, k) coordinates."""
        return np.asarray(self.mean + coordinates @ self.axes.T)


def principal_projection(vectors: NDArray[np.floating], axes: int) -> Projection:
    """Mean and the first principal axes of (n, d) vectors of unit length, at most d axes."""
    rows = vectors.astype(np.float64)
    mean = rows.mean(axis=0)
    _, directions = np.linalg.eigh((rows - mean).T @ (rows - mean))
    return Projection(mean, directions[:, ::-1][:, :axes])
