"""Features of (user, item) candidates: one function for the days that the ranker is trained on and the day it serves.

No feature knows the order of ids, nor anything after the cut: all counts and ages come from events before it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_spark.ranking.kernels.code_lists import CodeLists, Rows

Floats = NDArray[np.float32]

HALF_LIVES = (1, 7, 30, 90, 365)
"""Half-lives in days of the decayed counts of an item."""

SOURCE_HALF_LIVES = (7, 30, 90)
"""Half-lives whose most popular items are candidates."""

OWN_HALF_LIVES = (30, 365)
"""Half-lives in days of the decayed counts of an item of the user."""

POPULARITY = tuple(f"popularity_{days}" for days in HALF_LIVES[1:])
"""Logarithms of an item's share of the greatest decayed count: their scale is the same at every cut."""

TRENDS = tuple(f"trend_{days}" for days in HALF_LIVES[:-1])
"""Logarithms of the ratio of a decayed count and that of the next half-life."""

ITEM_FEATURES = (*POPULARITY, *TRENDS, "item_age", "item_quiet", "item_liked", "item_again")
"""Popularity; days since its first and last event; shares of its events that are positive, and of its users who had it
on two days or more."""

OWN_STATISTICS = ("times", "first", "last", *(f"own_{days}" for days in OWN_HALF_LIVES))
"""Statistics of an item of the user: positive events, ages of the first and last event in days, decayed counts."""

FEATURES = (
    *ITEM_FEATURES,
    "score",
    "score_share",
    "score_recent",
    "score_recent_share",
    "text",
    *(f"own_{days}" for days in OWN_HALF_LIVES),
    "own_quiet",
    "own_gap",
    "own_share",
    "user_events",
    "user_items",
    "user_age",
    "user_quiet",
)
"""Names of the features, in the order of the columns."""


@dataclass(frozen=True)
class Users:
    """The histories of B users: the items that they had, and (E, len(OWN_STATISTICS)) their statistics."""

    items: CodeLists
    values: Floats

    def features(self) -> Floats:
        """(B, 4) positive events and items (log1p), ages in days of the oldest and newest; NaN without a history."""
        sizes = self.items.sizes
        table = np.full((len(sizes), 4), np.nan, np.float32)
        filled = sizes > 0
        if filled.any():
            starts = self.items.offsets[:-1][filled]
            table[filled, 0] = np.add.reduceat(self.values[:, 0], starts)
            table[filled, 2] = np.maximum.reduceat(self.values[:, 1], starts)
            table[filled, 3] = np.minimum.reduceat(self.values[:, 2], starts)
        table[:, 0], table[:, 1] = np.log1p(np.nan_to_num(table[:, 0])), np.log1p(sizes)
        return table


@dataclass(frozen=True)
class Candidates:
    """C pairs of users and items, ascending by user, each pair once.

    Args:
        users: (C,) row of the user.
        ordinals: (C,) ordinal of the item.
        scores: (C,) score of the item by the user's history; 0 without one.
        recent: (C,) the same, by the newest baskets of the history above all.
        cosines: (C,) of the item's vector and the pooled vectors of the history; NaN without one.
        own: (C,) entry of ``Users`` that is this item; −1 for an item that the user never had.
    """

    users: Rows
    ordinals: Rows
    scores: Floats
    recent: Floats
    cosines: Floats
    own: Rows

    def part(self, chosen: slice) -> "Candidates":
        """Some of the candidates."""
        return Candidates(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def pair_features(candidates: Candidates, users: Users, user_features: Floats, item_features: Floats) -> Floats:
    """(C, len(FEATURES)) features; NaN where there is nothing to measure.

    Args:
        candidates: all candidates of every user among them: a score is compared with the user's best.
        users: all users.
        user_features: ``users.features()``.
        item_features: (C, len(ITEM_FEATURES)) of the item of each candidate.
    """
    of_user = user_features[candidates.users]
    table = np.empty((len(of_user), len(FEATURES)), np.float32)
    table[:, : len(ITEM_FEATURES)] = item_features
    others = [*_scores(candidates), *_own(candidates, users, of_user[:, 0]), *of_user.T]
    for column, values in enumerate(others, len(ITEM_FEATURES)):
        table[:, column] = values
    return table


def _scores(candidates: Candidates) -> list[Floats]:
    """Both scores and their shares of the user's best, and the cosine."""
    both = candidates.scores, candidates.recent
    columns = [column for scores in both for column in (scores, _share_of_best(scores, candidates.users))]
    return [*columns, candidates.cosines]


def _share_of_best(scores: Floats, users: Rows) -> Floats:
    best = np.zeros(users.max(initial=0) + 1, np.float32)
    np.maximum.at(best, users, scores)
    return np.divide(scores, best[users], out=np.zeros_like(scores), where=best[users] > 0)


def _own(candidates: Candidates, users: Users, user_events: Floats) -> list[Floats]:
    """Decayed counts, days since the last time, mean days between two times, share of the user's events."""
    own = candidates.own >= 0
    values = np.zeros((len(own), len(OWN_STATISTICS)), np.float32)
    values[own] = users.values[candidates.own[own]]
    times, first, last = values[:, :3].T
    gap = np.divide(first - last, times - 1, out=np.full_like(times, np.nan), where=times > 1)
    share = times / np.maximum(np.expm1(user_events), 1)
    return [*values[:, 3:].T, np.where(own, last, np.nan), gap, share]
