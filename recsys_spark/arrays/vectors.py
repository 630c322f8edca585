"""Matrices whose rows are vectors, and their scaling to unit length."""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]


def unit_rows(matrix: NDArray[np.floating]) -> Matrix:
    """Rows scaled to length 1, computed in float64; rows of zeros stay zero."""
    wide = matrix.astype(np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))[:, None]
    return np.divide(wide, norms, out=np.zeros_like(wide), where=norms > 0).astype(np.float32)
