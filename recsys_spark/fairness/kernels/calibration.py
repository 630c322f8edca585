"""Calibrated lists: their categories in the proportions of the user's history (Steck, RecSys 2018)."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SMOOTHING = 0.01
"""α of the paper: q is mixed with this share of p, so that a category without an item in the list costs a finite
amount."""


def divergence(history: Floats, listed: Floats) -> Floats:
    """Kullback-Leibler divergence Σ p · log(p / q̃) with q̃ = (1 − α)·q + α·p, over the last axis; 0 without a history.

    ``history``: (…, m) p, shares of the categories of the history. ``listed``: (…, m) q, those of the list.
    """
    mixed = (1 - SMOOTHING) * listed + SMOOTHING * history
    ratio = np.divide(history, mixed, out=np.ones(np.broadcast_shapes(history.shape, mixed.shape)), where=history > 0)
    return (history * np.log(ratio)).sum(axis=-1)


def calibrated_order(
    gains: Floats, shares: Floats, history: Floats, sizes: NDArray[np.int64], strength: float, k: int
) -> NDArray[np.int64]:
    """(U, k) columns of the candidates in the order of choice, −1 where there are too few.

    Every step takes the candidate that makes (1 − λ) · Σ gain − λ · divergence the greatest; of equal ones the first.
    The greedy choice reaches at least 1 − 1/e of the optimum (the paper, section 5).

    Args:
        gains: (U, c) in [0, 1], in the order of the scorer.
        shares: (U, c, m) share of each of the user's categories in a candidate.
        history: (U, m) share of each of these categories in the user's history; 0 behind the last.
        sizes: (U,) number of candidates.
        strength: λ; 0 keeps the order of the scorer, 1 ignores it.
        k: length of a list.
    """
    users, width = gains.shape
    rows, listed = np.arange(users), np.zeros(history.shape)
    free = np.arange(width) < sizes[:, None]
    order = np.full((users, k), -1, np.int64)
    for place in range(min(k, width)):
        after = (listed[:, None, :] + shares) / (place + 1)
        value = (1 - strength) * gains - strength * divergence(history[:, None, :], after)
        best = np.where(free, value, -np.inf).argmax(axis=1)
        some = free[rows, best]
        order[:, place] = np.where(some, best, -1)
        listed += np.where(some[:, None], shares[rows, best], 0.0)
        free[rows, best] = False
    return order
