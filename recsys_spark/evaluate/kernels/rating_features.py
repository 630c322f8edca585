"""What the other ratings of a user say about an item: scores for calibrated ratings (``ratings.py``)."""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys_spark.arrays.vectors import Matrix

Rows = NDArray[np.integer]

Values = NDArray[np.float64]

_AT_ONCE = 4096


def neighbor_scores(
    residuals: sp.csr_array, users: Rows, items: Rows, *, neighbors: int = 100, shrink: float = 50.0
) -> Values:
    """(n,) for each pair Σ c·residual / (Σ c + ½) over the other items that the user rated and that are near this one.

    c is the cosine of two items' residuals, times common / (common + shrink) for ``common`` users; only the
    ``neighbors`` greatest positive ones of an item count (Koren, TKDD 2010, §2.2). An item is not its own neighbour, so
    a pair's own rating says nothing of it. Holds n_items² numbers.

    Args:
        residuals: (users, items) rating less what biases say, in training.
    """
    near = _near(residuals, neighbors, shrink)
    rated = residuals.copy()
    rated.data = np.ones_like(rated.data)
    found = np.empty(len(users))
    for start in range(0, len(users), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        weights = near[items[part]]
        above = (residuals[users[part]] * weights).sum(axis=1)
        found[part] = above / ((rated[users[part]] * weights).sum(axis=1) + 0.5)
    return found


def text_scores(residuals: sp.csr_array, vectors: Matrix, users: Rows, items: Rows) -> Values:
    """(n,) cosine of an item's vector and the sum of the user's other items, each times its residual."""
    profiles = residuals @ vectors.astype(np.float64)
    found = np.empty(len(users))
    for start in range(0, len(users), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        own = vectors[items[part]].astype(np.float64)
        given = np.asarray(residuals[users[part], items[part]]).ravel()
        others = profiles[users[part]] - given[:, None] * own
        length = np.sqrt(np.einsum("ij,ij->i", others, others))
        found[part] = np.einsum("ij,ij->i", others, own) / np.where(length > 0, length, 1)
    return found


def _near(residuals: sp.csr_array, neighbors: int, shrink: float) -> sp.csr_array:
    """(items, items): row i has the neighbours of item i."""
    rated = residuals.copy()
    rated.data = np.ones_like(rated.data)
    squares = np.asarray(residuals.multiply(residuals).sum(axis=0)).ravel()
    products, common = (residuals.T @ residuals).toarray(), (rated.T @ rated).toarray()
    near = products / np.sqrt(np.outer(squares, squares) + 1e-9) * common / (common + shrink)
    np.fill_diagonal(near, 0)
    near[near < 0] = 0
    if neighbors < len(near):
        near[near < np.partition(near, -neighbors, axis=1)[:, -neighbors][:, None]] = 0
    return sp.csr_array(near)
