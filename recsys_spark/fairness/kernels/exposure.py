"""Floors on the exposure of groups of items, as one price for each group.

A list of k positions gives its item at rank r the exposure 1/log2(1 + r) (Singh and Joachims, Fairness of Exposure in
Rankings, KDD 2018). Lists are to have the greatest sum of exposure · gain, while every group has at least its share of
all exposure. The Lagrangian of that linear program has one price λ for each group, and for given prices its best list
is the k candidates of greatest gain + λ(group), in that order (rearrangement inequality). So a re-ranking is a sort,
and by duality no lists that meet the floors are better by more than Σ λ(group) · (exposure − floor): the proof of the
gap.

Gains, prices and exposures are integers, so that sums do not depend on their order and floors are met exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

UNIT = 1 << 20
"""The gain of the best candidate of a user; that of the last one is 0."""

EXPOSURE = 1 << 24
"""The exposure of rank 1."""

_ABSENT = np.int64(-(1 << 60))

_FIRST = np.int64(1 << 60)

_SWEEPS = 50


@dataclass(frozen=True)
class Candidates:
    """The candidates of U users, at most c each, in the order of the scorer.

    Args:
        gains: (U, c) from ``unit_gains``.
        groups: (U, c) index of the item's group; −1 without one that has a floor.
        sizes: (U,) number of candidates; the columns behind are empty.
        k: length of a list; fewer candidates make a shorter one.
        head: number of first positions that stay as the scorer has them.
    """

    gains: Ints
    groups: Ints
    sizes: Ints
    k: int
    head: int = 0

    def of(self, rows: Ints) -> "Candidates":
        """The candidates of some of the users."""
        return Candidates(self.gains[rows], self.groups[rows], self.sizes[rows], self.k, self.head)


def position_exposure(k: int) -> Ints:
    """(k,) the exposure of each rank: EXPOSURE / log2(1 + rank), rounded."""
    return np.rint(EXPOSURE / np.log2(np.arange(2, k + 2))).astype(np.int64)


def unit_gains(scores: NDArray[np.float64], sizes: Ints) -> Ints:
    """(U, c) scores of each user, descending, mapped linearly: the first to UNIT, the last to 0; all to UNIT where all
    are equal. Scorers have different scales; so mapped, every user's lists weigh the same."""
    if not scores.size:
        return np.zeros(scores.shape, np.int64)
    last = np.take_along_axis(scores, np.maximum(sizes - 1, 0)[:, None], axis=1)
    spread = scores[:, :1] - last
    shares = np.divide(scores - last, spread, out=np.ones_like(scores), where=spread > 0)
    return np.rint(np.clip(shares, 0.0, 1.0) * UNIT).astype(np.int64)


def priced_order(candidates: Candidates, prices: Ints) -> Ints:
    """(U, k) columns of the k candidates of greatest gain + price, in that order, ties in the order of the scorer; −1
    where there are too few.

    ``prices``: (1, G) for all users, or (U, G).
    """
    users, width = candidates.gains.shape
    padded = np.hstack([prices, np.zeros((len(prices), 1), np.int64)])  # group −1 has no price
    rows = np.arange(users)[:, None] if len(prices) > 1 else 0
    values = candidates.gains + padded[rows, candidates.groups]
    columns = np.arange(width)
    values[:, : candidates.head] = _FIRST - columns[: candidates.head]
    values[columns >= candidates.sizes[:, None]] = _ABSENT
    order = np.argsort(-values, axis=1, kind="stable")[:, : candidates.k]
    order[np.arange(order.shape[1]) >= candidates.sizes[:, None]] = -1
    return np.pad(order, ((0, 0), (0, candidates.k - order.shape[1])), constant_values=-1)


def group_exposure(order: Ints, groups: Ints, count: int) -> tuple[Ints, Ints]:
    """(U, count) the exposure of each group in each list, and (U,) that of the whole list."""
    weights = np.where(order >= 0, position_exposure(order.shape[1]), 0)
    listed = np.where(order >= 0, np.take_along_axis(groups, np.maximum(order, 0), axis=1), -1)
    by_group = np.zeros((len(order), count), np.int64)
    for group in range(count):
        by_group[:, group] = (weights * (listed == group)).sum(axis=1)
    return by_group, weights.sum(axis=1)


def needed_exposure(totals: Ints, shares: Sequence[Fraction]) -> Ints:
    """(M, G) the least exposure that is a share of each of the (M,) totals, rounded up."""
    return np.array([[-(-int(total) * s.numerator // s.denominator) for s in shares] for total in totals], np.int64)


def least_prices(
    candidates: Candidates, shares: Sequence[Fraction], *, by_list: bool
) -> tuple[Ints, NDArray[np.bool_]]:
    """The least prices at which floors are met.

    A higher price of a group can only take exposure from the others (they are gross substitutes). So prices that start
    at 0 and rise, one group after the other, to the least price that suffices beside the current ones, never pass the
    least prices that suffice together, and end there.

    Args:
        candidates: of U users.
        shares: least share of the exposure of each of G groups.
        by_list: in every list by itself, instead of over all lists together.

    Returns:
        (M, G) prices, and (M,) whether they meet the floors; M is U by list, otherwise 1. Floors that no prices meet
        have too few candidates, or leave no room for whole positions.
    """
    markets = len(candidates.sizes) if by_list else 1
    prices = np.zeros((markets, len(shares)), np.int64)
    cap, open_markets = (len(shares) + 1) * (UNIT + 1), np.arange(markets)
    for _ in range(_SWEEPS):
        part = candidates.of(open_markets) if by_list else candidates
        short = _short(part, prices[open_markets], shares, by_list)
        open_markets, short = open_markets[short.any(axis=1)], short[short.any(axis=1)]
        if not len(open_markets) or (prices[open_markets][short] >= cap).all():
            break
        part = candidates.of(open_markets) if by_list else candidates
        for group in range(len(shares)):
            prices[open_markets] = _raised(part, prices[open_markets], shares, group, cap, by_list)
    met = np.ones(markets, bool)
    met[open_markets] = False
    return prices, met


def duality_gap(prices: Sequence[int], exposure: Sequence[int], needed: Sequence[int]) -> int:
    """How much more exposure · gain lists that meet the floors could have at most: Σ price · (exposure − needed).

    It bounds the best ranking, also a random one, since it is the dual value at these prices minus the value reached.
    Python integers: the sums over all lists are too large for 64 bits.
    """
    terms = zip(prices, exposure, needed, strict=True)
    return sum(int(price) * (int(given) - int(least)) for price, given, least in terms)


def _raised(
    candidates: Candidates, prices: Ints, shares: Sequence[Fraction], group: int, cap: int, by_list: bool
) -> Ints:
    """Prices with that of ``group`` raised to the least that suffices for it, or to ``cap``; by bisection."""
    prices = prices.copy()
    short = _short(candidates, prices, shares, by_list)[:, group]
    low, high = prices[:, group].copy(), np.full(len(prices), cap)
    while (wide := short & (high - low > 1)).any():
        middle = np.where(wide, (low + high) // 2, low)
        tried = prices.copy()
        tried[:, group] = np.where(wide, middle, prices[:, group])
        still = _short(candidates, tried, shares, by_list)[:, group]
        low, high = np.where(wide & still, middle, low), np.where(wide & ~still, middle, high)
    prices[:, group] = np.where(short, high, prices[:, group])
    return prices


def _short(candidates: Candidates, prices: Ints, shares: Sequence[Fraction], by_list: bool) -> NDArray[np.bool_]:
    """(M, G) whether a group has less exposure than its floor."""
    exposure, totals = group_exposure(priced_order(candidates, prices), candidates.groups, len(shares))
    if not by_list:
        exposure, totals = exposure.sum(axis=0, keepdims=True), totals.sum(keepdims=True)
    return exposure < needed_exposure(totals, shares)
