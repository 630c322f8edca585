"""Pool the item vectors of users."""

import numpy as np
from numpy.typing import NDArray


def accumulate(
    sums: NDArray[np.float64], rows: NDArray[np.int64], weights: NDArray[np.float64], vectors: NDArray[np.float32]
) -> None:
    """Add ``weights[p] · vectors[p]`` to ``sums[rows[p]]`` for every pair p, in place. ``rows`` is ascending.

    Each row is summed in the order of its pairs. A caller that passes items in a fixed order therefore gets the same
    bits for any division of the items into blocks.
    """
    if not len(rows):
        return
    starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]])
    ordinal = np.arange(len(rows)) - np.repeat(starts, np.diff(np.r_[starts, len(rows)]))
    order = np.argsort(ordinal, kind="stable")
    bounds = np.searchsorted(ordinal[order], np.arange(ordinal.max() + 2))
    # The n-th pairs of all rows at once: their rows are distinct.
    for first, last in zip(bounds[:-1], bounds[1:], strict=True):
        pairs = order[first:last]
        sums[rows[pairs]] += weights[pairs, None] * vectors[pairs]
