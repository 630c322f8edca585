"""Pooling a user's items into one vector."""

import numpy as np
from numpy.typing import NDArray


def accumulate(
    sums: NDArray[np.float64], rows: NDArray[np.int64], weights: NDArray[np.float64], vectors: NDArray[np.float32]
) -> None:
    """Add ``weights[p] · vectors[p]`` to ``sums[rows[p]]`` for every pair p, in place. ``rows`` is ascending.

    Each row is summed strictly in the order of its pairs, so a caller that feeds items in a fixed order gets the same
    bits however the items were cut into blocks.
    """
    if not len(rows):
        return
    starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]])
    turn = np.arange(len(rows)) - np.repeat(starts, np.diff(np.r_[starts, len(rows)]))
    order = np.argsort(turn, kind="stable")
    bounds = np.searchsorted(turn[order], np.arange(turn.max() + 2))
    for first, last in zip(
        bounds[:-1], bounds[1:], strict=True
    ):  # the n-th pair of every user at once: rows are distinct
        pairs = order[first:last]
        sums[rows[pairs]] += weights[pairs, None] * vectors[pairs]
