"""Scores of an item from the user's other ratings, the input of calibrated ratings (``rating_model.py``)."""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys_spark.arrays.vectors import Matrix

Rows = NDArray[np.integer]

Values = NDArray[np.float64]

_PAIRS_AT_ONCE = 4096

_ITEMS_AT_ONCE = 512


def neighbor_scores(
    residuals: sp.csr_array, users: Rows, items: Rows, *, neighbors: int = 100, shrink: float = 50.0
) -> Values:
    """(n,) for each pair Σ c·residual / (Σ c + ½) over the neighbours of the item that the user rated.

    c is the cosine of two items' residuals, times common / (common + shrink) for ``common`` users. Only the
    ``neighbors`` greatest positive ones of an item count (Koren, TKDD 2010, §2.2). An item is not its own neighbour, so
    a pair's rating does not enter its score. Its time grows with n_items².

    Args:
        residuals: (users, items), training ratings minus their biases.
    """
    similarities = _neighbor_similarities(residuals, neighbors, shrink)
    is_rated = _ones_like(residuals)
    scores = np.empty(len(users))
    for start in range(0, len(users), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        weights = similarities[items[part]]
        weighted_sum = (residuals[users[part]] * weights).sum(axis=1)
        scores[part] = weighted_sum / ((is_rated[users[part]] * weights).sum(axis=1) + 0.5)
    return scores


def text_scores(residuals: sp.csr_array, vectors: Matrix, users: Rows, items: Rows) -> Values:
    """(n,) cosine of the item's vector and the sum of the vectors of the user's other items times their residuals."""
    profiles = residuals @ vectors.astype(np.float64)
    scores = np.empty(len(users))
    for start in range(0, len(users), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        item_vectors = vectors[items[part]].astype(np.float64)
        pair_residuals = np.asarray(residuals[users[part], items[part]]).ravel()
        others = profiles[users[part]] - pair_residuals[:, None] * item_vectors
        norms = np.sqrt(np.einsum("ij,ij->i", others, others))
        scores[part] = np.einsum("ij,ij->i", others, item_vectors) / np.where(norms > 0, norms, 1)
    return scores


def _neighbor_similarities(residuals: sp.csr_array, neighbors: int, shrink: float) -> sp.csr_array:
    """(items, items): row i has the similarities of the neighbours of item i."""
    is_rated = _ones_like(residuals)
    squares = np.asarray(residuals.multiply(residuals).sum(axis=0)).ravel()
    by_item, rated_by_item, parts = sp.csr_array(residuals.T), sp.csr_array(is_rated.T), []
    for first in range(0, len(squares), _ITEMS_AT_ONCE):
        rows = np.arange(first, min(first + _ITEMS_AT_ONCE, len(squares)))
        products, common = (by_item[rows] @ residuals).toarray(), (rated_by_item[rows] @ is_rated).toarray()
        similar = products / np.sqrt(np.outer(squares[rows], squares) + 1e-9) * common / (common + shrink)
        similar[rows - first, rows] = 0
        similar[similar < 0] = 0
        if neighbors < len(squares):
            similar[similar < np.partition(similar, -neighbors, axis=1)[:, -neighbors][:, None]] = 0
        parts.append(sp.csr_array(similar))
    return sp.csr_array(sp.vstack(parts, format="csr"))


def _ones_like(matrix: sp.csr_array) -> sp.csr_array:
    """The sparsity pattern of a matrix: 1 for each stored entry."""
    ones = matrix.copy()
    ones.data = np.ones_like(ones.data)
    return ones
