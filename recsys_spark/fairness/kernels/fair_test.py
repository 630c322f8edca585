"""FA*IR: lists whose every prefix passes a binomial test (Zehlike et al., FA*IR: A Fair Top-k Ranking Algorithm, CIKM
2017)."""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_ROUNDS = 40


def least_protected(k: int, share: float, significance: float) -> Ints:
    """(k,) least number of protected items among the first 1 … k, so that a list passes the test.

    A fair list draws every item from the protected ones with probability ``share``. The test at one prefix rejects at a
    level below ``significance``, chosen by bisection such that all k tests together reject a fair list with probability
    ``significance`` at most (the adjustment for multiple tests of the paper, section 3.3).
    """
    low, high = 0.0, significance
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        if _rejected(_quantiles(k, share, middle), share) > significance:
            high = middle
        else:
            low = middle
    return _quantiles(k, share, low)


def passing_order(protected: NDArray[np.bool_], sizes: Ints, least: Ints) -> Ints:
    """(U, k) columns of the candidates in the order of the list, −1 where there are too few.

    Each position takes the best remaining candidate, or the best protected one if the prefix would fail the test.

    Args:
        protected: (U, c) whether a candidate is protected; candidates in the order of the scorer.
        sizes: (U,) number of candidates.
        least: (k,) from ``least_protected``.
    """
    users, width = protected.shape
    columns, rows = np.arange(width), np.arange(users)
    absent = columns >= sizes[:, None]
    queues = [np.sort(np.where(one & ~absent, columns, width), axis=1) for one in (protected, ~protected)]
    first, other = (np.hstack([queue, np.full((users, 1), width)]) for queue in queues)
    taken, turn = np.zeros(users, np.int64), np.zeros(users, np.int64)
    order = np.full((users, len(least)), -1, np.int64)
    for place, minimum in enumerate(least):
        best, rest = first[rows, taken], other[rows, turn]
        chosen = (best < rest) | ((taken < minimum) & (best < width))
        column = np.where(chosen, best, rest)
        order[:, place] = np.where(column < width, column, -1)
        taken, turn = taken + (chosen & (best < width)), turn + (~chosen & (rest < width))
    return order


def passed(order: Ints, protected: NDArray[np.bool_], least: Ints) -> NDArray[np.bool_]:
    """(U,) whether every prefix of a list holds enough protected items; empty positions are not tested."""
    listed = np.take_along_axis(protected, np.maximum(order, 0), axis=1) & (order >= 0)
    return np.asarray(((listed.cumsum(axis=1) >= least) | (order < 0)).all(axis=1))


def _quantiles(k: int, share: float, level: float) -> Ints:
    """(k,) the level-quantile of the number of protected items among the first 1 … k of a fair list."""
    from scipy.stats import binom  # takes longer to load than a run with nothing to do lasts

    return np.maximum(binom.ppf(level, np.arange(1, k + 1), share), 0).astype(np.int64)


def _rejected(least: Ints, share: float) -> float:
    """The probability that a fair list has fewer than ``least`` protected items in any prefix."""
    passing = np.array([1.0])  # by number of protected items so far
    for minimum in least:
        passing = np.convolve(passing, [1 - share, share])
        passing[:minimum] = 0.0
    return float(1.0 - passing.sum())
