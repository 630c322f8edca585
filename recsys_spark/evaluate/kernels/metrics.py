"""Metrics of lists, one value per user, and bootstrap weights for intervals of their means.

A list enters as the ranks of the user's relevant items, so that a scorer need not store it. A metric that is undefined
for a user is NaN; means are over the other users.
"""

import math

import numpy as np
from numpy.typing import NDArray

from recsys_spark.arrays.hashed_draws import streams, uniform
from recsys_spark.arrays.vectors import Matrix

Rows = NDArray[np.integer]

Values = NDArray[np.float64]

_NUMBERS_AT_ONCE = 1 << 22


def rank_metrics(ranks: Values, owner: Rows, users: int, k: int) -> dict[str, Values]:
    """Each metric at k as (users,), NaN for users without relevant items.

    With h relevant items among a user's first k, at ranks r_1 ≤ … ≤ r_h, and n relevant items in all:

    - ``hit_rate`` 1 if h > 0, else 0; ``precision`` h / k; ``recall`` h / min(k, n).
    - ``ndcg`` Σ 1/log2(r_j + 1), divided by the same sum over ranks 1 … min(k, n) (Järvelin and Kekäläinen, TOIS 2002).
    - ``mrr`` 1 / r_1, 0 without a hit; ``map`` Σ j / r_j, divided by min(k, n), so that 1 can be reached where n > k.

    The missing ranks of a list shorter than k are misses. Items with equal scores may each have the mean of their
    ranks; more than k items can then have ranks up to k, of which k count, so that no metric exceeds 1.

    Args:
        ranks: one for each relevant item of each user, from 1; infinite where the item cannot be listed.
        owner: the row of the user, 0 … users − 1, of each rank, in any order.
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
    ordinal = 1 + np.arange(len(ranks)) - np.repeat(np.cumsum(relevant) - relevant, relevant)
    hit = (ranks <= k) & (ordinal <= k)
    ranks, owner, ordinal = ranks[hit], owner[hit], ordinal[hit]
    possible = np.minimum(relevant, k)
    hits = np.bincount(owner, minlength=users).astype(np.float64)
    ideal = np.append(0.0, np.cumsum(_gain(np.arange(1, k + 1))))[possible]
    first = ordinal == 1
    sums = {
        "hit_rate": np.minimum(hits, 1.0),
        "recall": _shares(hits, possible),
        "precision": hits / k,
        "ndcg": _shares(np.bincount(owner, _gain(ranks), users), ideal),
        "mrr": np.bincount(owner[first], 1.0 / ranks[first], users),
        "map": _shares(np.bincount(owner, ordinal / ranks, users), possible),
    }
    return {name: np.where(relevant > 0, values, np.nan) for name, values in sums.items()}


def coverage(exposure: NDArray[np.number]) -> float:
    """Listed items / items. ``exposure``: (n,) the number of lists with each item of the catalogue. NaN if n is 0."""
    return float(np.count_nonzero(exposure) / len(exposure)) if len(exposure) else math.nan


def gini(exposure: NDArray[np.number]) -> float:
    """Inequality of exposure: 0 = all items are listed equally often, 1 = one item takes all.

    Σ (2j − n − 1)·x_j / ((n − 1)·Σ x_j), where x_1 ≤ … ≤ x_n is the exposure of each of the n items of the catalogue,
    zeros included (Shani and Gunawardana, Recommender Systems Handbook, 2011). NaN if no item is listed; 0 for a
    catalogue of one item.
    """
    ordered = np.sort(exposure).astype(np.float64)
    size, total = len(ordered), ordered.sum()
    if not total > 0:
        return math.nan
    return float((2.0 * np.arange(1, size + 1) - size - 1) @ ordered / (max(size - 1, 1) * total))


def novelty(lists: Rows, events: NDArray[np.integer]) -> Values:
    """(U,): the mean of −log2((c + 1) / (Σc + n)) over the items of a list, c their events: 0 to log2(Σc + n) bits.

    The mean self-information of Zhou et al. (PNAS 2010). One event is added to each of the n items, so that it is
    finite for items without events. NaN for an empty list.

    Args:
        lists: (U, k) rows of items; −1 where a rank is empty.
        events: (n,) events of each item.
    """
    bits = math.log2(events.sum() + len(events)) - np.log2(events + 1.0)
    filled = lists >= 0
    return _shares(np.append(bits, 0.0)[np.where(filled, lists, -1)].sum(axis=1), filled.sum(axis=1))


def intra_list_diversity(vectors: Matrix, lists: Rows) -> Values:
    """(U,): 1 − the mean cosine over the m(m − 1)/2 pairs of the m items of a list; NaN for fewer than 2 items.

    The complement of the similarity of Ziegler et al. (WWW 2005). The cosines of all pairs of unit vectors sum to
    (|Σv|² − Σ|v|²) / 2. A vector of zeros has cosine 0 to all others.

    Args:
        vectors: (n, d) unit vectors of the items.
        lists: (U, k) rows of items; −1 where a rank is empty.
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
    """(U, replicates): how often each bootstrap replicate draws a user; Poisson(1) distributed.

    A function of the user's hash, the replicate's number and the seed only, so that tasks draw the same sample for
    any partitioning (Chamandy et al., Estimating Uncertainty for Massive Data Streams, 2012). The numbers come from
    ``hashed_draws``, one stream per user, through the inverse of the distribution function.

    Args:
        user_hash: (U,) 64-bit hashes, signed or not. Users with equal hashes are drawn together.
    """
    starts = streams(user_hash, seed)
    weights = np.empty((replicates, len(user_hash)), np.uint8)
    for replicate in range(replicates):
        weights[replicate] = np.searchsorted(_POISSON, uniform(starts, replicate), side="right")
    return weights.T


def bootstrap_sums(values: Values, weights: NDArray[np.uint8]) -> tuple[Values, Values]:
    """Σ weight·value and Σ weight over the users of one task, for each replicate. NaN values add to neither.

    The mean of a replicate is the first sum over all tasks divided by the second.

    Args:
        values: (U,) or, for several metrics, (U, m).
        weights: (U, replicates).

    Returns:
        Two arrays (replicates,) or (replicates, m).
    """
    draws, defined = weights.T.astype(np.float64), ~np.isnan(values)
    return draws @ np.where(defined, values, 0.0), draws @ defined.astype(np.float64)


def interval(means: Values, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval: the interpolated quantiles (1 − level)/2 and (1 + level)/2 of the replicates' means.

    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13. Replicates without users, whose mean is
    NaN, are left out; (NaN, NaN) if there are no others.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, found {level}")
    means = means[~np.isnan(means)]
    if not len(means):
        return math.nan, math.nan
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _gain(ranks: NDArray[np.number]) -> Values:
    return 1.0 / np.log2(ranks + 1.0)


def _shares(parts: NDArray[np.number], wholes: NDArray[np.number]) -> Values:
    """``parts / wholes``; NaN where the whole is 0."""
    return np.divide(parts, wholes, out=np.full(len(parts), np.nan), where=wholes > 0)


_POISSON = np.cumsum([math.exp(-1) / math.factorial(j) for j in range(19)])
"""P(weight ≤ j), up to the last j at which it is less than 1 in float64."""
