"""Metrics of lists, one value per user, and resampling weights that give their mean an interval.

A user's list enters as the ranks of that user's relevant items, which any scorer can yield without keeping the list.
A user for whom a metric says nothing has NaN: means are over the others.
"""

import math

import numpy as np
from numpy.typing import NDArray

from recsys_spark.arrays.vectors import Matrix

Rows = NDArray[np.integer]

Values = NDArray[np.float64]

_NUMBERS_AT_ONCE = 1 << 22

_GOLDEN = 0x9E3779B97F4A7C15

_MASK = (1 << 64) - 1


def rank_metrics(ranks: Values, owner: Rows, users: int, k: int) -> dict[str, Values]:
    """Each metric at k as (users,), NaN for users without relevant items.

    With h the relevant items among a user's first k places, at ranks r_1 ≤ … ≤ r_h, and n all relevant items:

    - ``hit_rate`` 1 if h > 0, else 0; ``precision`` h / k; ``recall`` h / min(k, n).
    - ``ndcg`` Σ 1/log2(r_j + 1), divided by the same sum over ranks 1 … min(k, n) (Järvelin and Kekäläinen, TOIS 2002).
    - ``mrr`` 1 / r_1, 0 without a hit; ``map`` Σ j / r_j, divided by min(k, n), so that 1 can be reached where n > k.

    A list shorter than k counts its missing places as misses. Items of equal score may each have the mean of their
    ranks; then more than k items can stand at ranks up to k, and k of them count: no metric exceeds 1.

    Args:
        ranks: one for every relevant item of every user, from 1; infinite where the item cannot be listed.
        owner: the user's row, 0 … users − 1, of each rank, in any order.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, found {k}")
    if len(ranks) and not ranks.min() >= 1:
        raise ValueError(f"ranks start at 1, found {ranks.min()}")
    if len(owner) and owner.max() >= users:
        raise ValueError(f"owner has row {owner.max()}, but there are {users} users")
    order = np.lexsort((ranks, owner))
    ranks, owner = ranks[order], owner[order]
    relevant = np.bincount(owner, minlength=users)
    place = 1 + np.arange(len(ranks)) - np.repeat(np.cumsum(relevant) - relevant, relevant)
    hit = (ranks <= k) & (place <= k)
    ranks, owner, place = ranks[hit], owner[hit], place[hit]
    possible = np.minimum(relevant, k)
    hits = np.bincount(owner, minlength=users).astype(np.float64)
    ideal = np.append(0.0, np.cumsum(_gain(np.arange(1, k + 1))))[possible]
    first = place == 1
    sums = {
        "hit_rate": np.minimum(hits, 1.0),
        "recall": _shares(hits, possible),
        "precision": hits / k,
        "ndcg": _shares(np.bincount(owner, _gain(ranks), users), ideal),
        "mrr": np.bincount(owner[first], 1.0 / ranks[first], users),
        "map": _shares(np.bincount(owner, place / ranks, users), possible),
    }
    return {name: np.where(relevant > 0, values, np.nan) for name, values in sums.items()}


def coverage(exposure: NDArray[np.number]) -> float:
    """Items shown at all / items. ``exposure``: (n,) how often each item of the catalogue is shown; NaN if n is 0."""
    return float(np.count_nonzero(exposure) / len(exposure)) if len(exposure) else math.nan


def gini(exposure: NDArray[np.number]) -> float:
    """How unequally items are shown: 0 if all equally often, 1 if one item takes every place.

    Σ (2j − n − 1)·x_j / ((n − 1)·Σ x_j), x_1 ≤ … ≤ x_n the times that each of the n items of the catalogue is shown,
    never shown ones included (Shani and Gunawardana, Recommender Systems Handbook, 2011). NaN if nothing is shown; 0
    for a catalogue of one item.
    """
    ordered = np.sort(exposure).astype(np.float64)
    size, total = len(ordered), ordered.sum()
    if not total > 0:
        return math.nan
    return float((2.0 * np.arange(1, size + 1) - size - 1) @ ordered / (max(size - 1, 1) * total))


def novelty(lists: Rows, events: NDArray[np.integer]) -> Values:
    """(U,): the mean of −log2((c + 1) / (Σc + n)) over a list's items, c their events: 0 to log2(Σc + n) bits.

    The mean self-information of Zhou et al. (PNAS 2010), with one event added to each of the n items, so that items
    without events have a finite one. NaN for an empty list.

    Args:
        lists: (U, k) rows of items; −1 where a place is empty.
        events: (n,) events of each item.
    """
    bits = math.log2(events.sum() + len(events)) - np.log2(events + 1.0)
    filled = lists >= 0
    return _shares(np.append(bits, 0.0)[np.where(filled, lists, -1)].sum(axis=1), filled.sum(axis=1))


def intra_list_diversity(vectors: Matrix, lists: Rows) -> Values:
    """(U,): 1 − the mean cosine over the m(m − 1)/2 pairs of a list's m items; NaN for fewer than 2 items.

    The complement of the similarity of Ziegler et al. (WWW 2005). The cosines of all pairs of unit vectors sum to
    (|Σv|² − Σ|v|²) / 2. A vector of zeros has cosine 0 to every other.

    Args:
        vectors: (n, d) unit vectors of the items.
        lists: (U, k) rows of items; −1 where a place is empty.
    """
    sums = np.zeros(len(lists))
    rows = max(1, _NUMBERS_AT_ONCE // max(1, lists.shape[1] * vectors.shape[1]))
    for start in range(0, len(lists), rows):
        part = lists[start : start + rows]
        listed = np.where((part >= 0)[:, :, None], vectors[part], 0).astype(np.float64)
        total = listed.sum(axis=1)
        squares = np.einsum("ikd,ikd->i", listed, listed)
        sums[start : start + rows] = np.einsum("id,id->i", total, total) - squares
    size = (lists >= 0).sum(axis=1)
    return 1.0 - _shares(sums, size * (size - 1))


def poisson_weights(user_hash: NDArray[np.integer], replicates: int, seed: int) -> NDArray[np.uint8]:
    """(U, replicates): how often each bootstrap replicate draws a user, Poisson(1) distributed.

    A function of the user's hash, the number of the replicate and the seed alone: tasks that know nothing of each other
    draw the same sample, whatever the partitioning (Chamandy et al., Estimating Uncertainty for Massive Data Streams,
    2012). The numbers are those of SplitMix64 (Steele et al., OOPSLA 2014), one stream per user, taken through the
    inverse of the distribution function.

    Args:
        user_hash: (U,) 64-bit hashes, signed or not; users of equal hashes are drawn together.
    """
    start = _mixed(user_hash.astype(np.uint64) + _mixed(np.array([seed & _MASK], np.uint64)))
    weights = np.empty((replicates, len(user_hash)), np.uint8)
    for replicate in range(replicates):
        number = _mixed(start + np.uint64((replicate + 1) * _GOLDEN & _MASK))
        uniform = (number >> np.uint64(11)) * 2.0**-53
        weights[replicate] = np.searchsorted(_POISSON, uniform, side="right")
    return weights.T


def bootstrap_sums(values: Values, weights: NDArray[np.uint8]) -> tuple[Values, Values]:
    """Σ weight·value and Σ weight over the users of one task, for each replicate; a value of NaN adds to neither.

    Added up over tasks, the first divided by the second is each replicate's mean.

    Args:
        values: (U,) or, for several metrics, (U, m).
        weights: (U, replicates).

    Returns:
        Two arrays (replicates,) or (replicates, m).
    """
    drawn, known = weights.T.astype(np.float64), ~np.isnan(values)
    return drawn @ np.where(known, values, 0.0), drawn @ known.astype(np.float64)


def interval(means: Values, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval: the quantiles (1 − level)/2 and (1 + level)/2 of the replicates' means, interpolated.

    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13. A replicate that drew nobody has the mean
    NaN and is left out; (NaN, NaN) if all are.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, found {level}")
    known = means[~np.isnan(means)]
    if not len(known):
        return math.nan, math.nan
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _gain(ranks: NDArray[np.number]) -> Values:
    return 1.0 / np.log2(ranks + 1.0)


def _shares(parts: NDArray[np.number], wholes: NDArray[np.number]) -> Values:
    """``parts / wholes``, NaN where the whole is 0."""
    return np.divide(parts, wholes, out=np.full(len(parts), np.nan), where=wholes > 0)


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's output function; unsigned arithmetic wraps around, as it must."""
    numbers = (numbers ^ numbers >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ numbers >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return numbers ^ numbers >> np.uint64(31)


_POISSON = np.cumsum([math.exp(-1) / math.factorial(j) for j in range(19)])
"""P(weight ≤ j), as far as float64 tells it from 1."""
