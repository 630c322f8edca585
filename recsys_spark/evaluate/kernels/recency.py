"""Counts of users that fade with the age of their events."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from recsys_spark.evaluate.kernels.scorers import Rows

HALF_LIVES = (30.0, 7.0, 90.0, 365.0)
"""Days after which a user counts half, from which validation chooses; the first one begins."""


@dataclass(frozen=True)
class ItemCounts:
    """Users of each of n items.

    Args:
        users: (n,) number of users.
        recent: (half-lives, n) the same, each user weighted by 2^(−age / half-life), in the order of HALF_LIVES. The
            age is that of the user's newest event of the item.
        newest: day, in days since 1970, from which ages count. Another day scales all of ``recent``, and no order
            changes. −inf without events.
    """

    users: NDArray[np.int64]
    recent: NDArray[np.float64]
    newest: float

    def __add__(self, other: "ItemCounts") -> "ItemCounts":
        newest = max(self.newest, other.newest)
        if np.isneginf(newest):
            return self
        recent = _faded(self.recent, newest - self.newest) + _faded(other.recent, newest - other.newest)
        return ItemCounts(self.users + other.users, recent, newest)

    def popularity(self, half_life: float) -> NDArray[np.float32]:
        """(n,) log2 of the faded counts; items without users are one below the least of the others.

        The logarithm keeps the order where a float32 could not hold the counts of old events.
        """
        recent = self.recent[HALF_LIVES.index(half_life)]
        levels = np.log2(recent, out=np.full(len(recent), np.inf), where=recent > 0)
        least = levels.min(initial=np.inf)
        return np.where(recent > 0, levels, least - 1 if np.isfinite(least) else 0).astype(np.float32)


def item_counts(owners: Rows, items: Rows, days: NDArray[np.float64], count: int) -> ItemCounts:
    """The counts of a log with one entry per event. ``count``: number of items."""
    if not len(items):
        return ItemCounts(np.zeros(count, np.int64), np.zeros((len(HALF_LIVES), count)), -np.inf)
    order = np.lexsort((-days, items, owners))
    owners, items, days = owners[order], items[order], days[order]
    first = np.append(True, (np.diff(owners) != 0) | (np.diff(items) != 0))
    items, ages = items[first], days.max() - days[first]
    recent = [np.bincount(items, 0.5 ** (ages / half_life), count) for half_life in HALF_LIVES]
    return ItemCounts(np.bincount(items, minlength=count), np.stack(recent), float(days.max()))


def total_counts(parts: Sequence[ItemCounts], count: int) -> ItemCounts:
    """The sum of counts of different users."""
    none = np.empty(0, np.int64)
    return reduce(ItemCounts.__add__, parts, item_counts(none, none, np.empty(0), count))


def _faded(recent: NDArray[np.float64], days: float) -> NDArray[np.float64]:
    """``recent`` as seen that many days later."""
    return recent * 0.5 ** (days / np.array(HALF_LIVES))[:, None]
