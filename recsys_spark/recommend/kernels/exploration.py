"""Exploration in the tail of a list, with the exact probability of what is shown."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_spark.arrays.hashed_draws import Hashes, streams, uniform

Rows = NDArray[np.int64]

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Exploration:
    """Settings of exploration.

    Args:
        share: ε, the probability that a tail position is drawn.
        slots: number of positions that are shown.
        head: number of first positions that never change.
        seed: of the draws.
    """

    share: float
    slots: int
    head: int = 1
    seed: int = 0


def explored(sizes: Rows, hashes: Hashes, settings: Exploration) -> tuple[Rows, Values]:
    """What is shown in place of the first positions of each list, and with which probability.

    A list has c candidates in the order of their ranks; without exploration the first n = min(slots, c) are shown. Each
    of these positions from ``head`` on is drawn with probability ε, independently of the others. The drawn positions
    get items without replacement, all equally probable, out of a pool: the items of the drawn positions and the
    u = c − n candidates that would not be shown. With t = n − head tail positions and B(m) binomial with m trials of
    probability ε, the probability that an item is shown at a tail position is

    - its own item:            1 − ε + ε·E[1 / (1 + B(t − 1) + u)]
    - a candidate below n:     ε·E[1 / (1 + B(t − 1) + u)]
    - of another tail position: ε²·E[1 / (2 + B(t − 2) + u)]

    since a drawn position has B(t − 1) other drawn ones. These are marginal probabilities over all draws, as the
    item-position estimator needs them (Li et al., Offline Evaluation of Ranking Policies with Click Models, KDD 2018).
    A softmax over scores (Plackett-Luce) has no such closed form, and no temperature that fits the scores of several
    scorers.

    Args:
        sizes: (U,) number of candidates of each list.
        hashes: (U,) a 64-bit hash of user and day: the same hash gives the same draws, in any batch.

    Returns:
        (U, slots) the index from 0 of the candidate at each position, −1 where there is none; and its probability, NaN
        where there is none.
    """
    width = max(int(sizes.max(initial=0)), settings.slots)
    starts = streams(hashes, settings.seed)
    places, candidates = np.arange(settings.slots), np.arange(width)
    shown = np.minimum(sizes, settings.slots)[:, None]
    coins = np.stack([uniform(starts, 2 * place) for place in range(settings.slots)], axis=1)
    drawn = (places >= settings.head) & (places < shown) & (coins < settings.share)
    pool = (candidates >= settings.slots) & (candidates < sizes[:, None])
    pool[:, : settings.slots] = drawn
    order = np.stack([uniform(starts, 2 * candidate + 1) for candidate in range(width)], axis=1)
    by_draw = np.argsort(np.where(pool, order, np.inf), axis=1, kind="stable")
    turns = np.maximum(np.cumsum(drawn, axis=1) - 1, 0)
    chosen = np.where(drawn, np.take_along_axis(by_draw, turns, axis=1), places)
    chosen = np.where(places < shown, chosen, -1)
    return chosen, _probabilities(chosen, shown, sizes[:, None] - shown, settings)


def _probabilities(chosen: Rows, shown: Rows, unshown: Rows, settings: Exploration) -> Values:
    """(U, slots) the formulas of ``explored``."""
    share, places = settings.share, np.arange(settings.slots)
    tail = np.maximum(shown - settings.head, 0)
    fresh = share * _mean_inverse(tail - 1, 1 + unshown, share)
    swapped = share**2 * _mean_inverse(tail - 2, 2 + unshown, share)
    drawn = np.where(chosen == places, 1 - share + fresh, np.where(chosen >= shown, fresh, swapped))
    return np.where(chosen < 0, np.nan, np.where(places < settings.head, 1.0, drawn))


def _mean_inverse(trials: Rows, added: Rows, share: float) -> Values:
    """E[1 / (added + B)] with B binomial of ``trials``; (U, 1), from the distinct pairs of the two."""
    from scipy.stats import binom  # takes longer to load than a run with nothing to do lasts

    pairs, inverse = np.unique(np.hstack([np.maximum(trials, 0), added]), axis=0, return_inverse=True)
    counts = np.arange(pairs[:, 0].max(initial=0) + 1)
    masses = binom.pmf(counts, pairs[:, :1], share) / (pairs[:, 1:] + counts)
    return masses.sum(axis=1)[inverse.ravel()][:, None]
