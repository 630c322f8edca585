"""Team-draft interleaving of two lists, and the test of who won.

Radlinski, Kurup and Joachims, How Does Clickthrough Data Reflect Retrieval Quality?, CIKM 2008; scoring as in Chapelle
et al., Large-Scale Validation and Analysis of Interleaved Search Evaluation, TOIS 2012.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from recsys_spark.arrays.hashed_draws import Hashes, streams, uniform

Rows = NDArray[np.int64]

FIRST, SECOND = 0, 1
"""The teams: items taken from the first list, and from the second."""


@dataclass(frozen=True)
class SignTest:
    """The share of the users with a preference who prefer the second list, with its exact interval (Clopper and
    Pearson, 1934), and the two-sided p-value of no preference. All None if no user has a preference."""

    share: float | None
    low: float | None
    high: float | None
    p_value: float | None


def team_draft(first: Rows, second: Rows, slots: int, hashes: Hashes, seed: int = 0) -> tuple[Rows, Rows]:
    """Interleave two lists of each user.

    The team with fewer items picks next; if both have as many, a coin decides. A team picks the first item of its list
    that is not picked yet; if there is none, the other team picks. So at every moment the teams differ by at most one
    item while both have some left, and neither list has an advantage.

    Args:
        first, second: (U, a) and (U, b) codes of the items of the lists in their order, ≥ 0 and each once per list;
            −1 where a list has ended. The same item has the same code in both lists of a user.
        slots: length of the interleaved list.
        hashes: (U,) a 64-bit hash of salt, user and day, which decides the coins.

    Returns:
        (U, slots) item codes and teams; −1 where both lists have ended.
    """
    users, starts = np.arange(len(first)), streams(hashes, seed)
    lists, taken = (first, second), [first < 0, second < 0]
    items, teams = np.full((2, len(first), slots), -1)
    sizes = np.zeros((2, len(first)), np.int64)
    for slot in range(slots):
        left = np.stack([~ended.all(axis=1) for ended in taken])
        coin = (uniform(starts, slot) < 0.5).astype(np.int64)
        team = np.where(sizes[0] == sizes[1], coin, (sizes[1] < sizes[0]).astype(np.int64))
        team = np.where(left[team, users], team, 1 - team)
        for side in (FIRST, SECOND):
            rows = users[(team == side) & left[side]]
            chosen = lists[side][rows, np.argmin(taken[side][rows], axis=1)]
            items[rows, slot], teams[rows, slot] = chosen, side
            sizes[side, rows] += 1
            for mask, codes in zip(taken, lists, strict=True):
                mask[rows] |= codes[rows] == chosen[:, None]
    return items, teams


def sign_test(first_wins: int, second_wins: int, level: float) -> SignTest:
    """The exact binomial test of the users who prefer one list; users with as many rewards for both are left out."""
    users = first_wins + second_wins
    if not users:
        return SignTest(None, None, None, None)
    test = binomtest(second_wins, users, 0.5)
    bounds = test.proportion_ci(level, method="exact")
    return SignTest(second_wins / users, float(bounds.low), float(bounds.high), float(test.pvalue))
