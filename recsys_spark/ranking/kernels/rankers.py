"""Rankers: scores of candidates from their features, and what each kind of feature contributes to a score."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_spark.ranking.kernels.features import FEATURES, POPULARITY, Floats
from recsys_spark.ranking.kernels.trees import Trees

TREES = "trees"

KINDS = ("popular", "similar", "again", "average")
"""Kinds of reasons: popularity and age of the item; its score by the user's history; the times that the user had it;
the expected score of a candidate of this user."""


@dataclass(frozen=True)
class Ranker:
    """A ranker by name: TREES with ``trees``, or one of SIMPLE."""

    name: str
    trees: Trees | None = None

    def scores(self, features: Floats) -> Floats:
        """(C,) scores of candidates with ``pair_features``; greater is better."""
        if self.trees is not None:
            return self.trees.scores(features)
        first, days = SIMPLE[self.name]
        popularity = np.exp(features[:, FEATURES.index(f"popularity_{days}")])  # a share, about 1 at most
        if first is None:
            return popularity
        preferred = features[:, FEATURES.index(first)]
        return np.where(preferred > 0, 2 + preferred, popularity).astype(np.float32)

    def contributions(self, features: Floats) -> NDArray[np.float64]:
        """(C, len(KINDS)) what each kind contributes; a row adds up to the score."""
        table = np.zeros((len(features), len(KINDS)))
        if self.trees is not None:
            values = self.trees.contributions(features)
            for column, name in enumerate((*FEATURES, "")):
                table[:, KINDS.index(_kind(name))] += values[:, column]
            return table
        first, _ = SIMPLE[self.name]
        scores = self.scores(features)
        preferred = np.zeros(len(features), bool) if first is None else features[:, FEATURES.index(first)] > 0
        table[~preferred, KINDS.index("popular")] = scores[~preferred]
        table[preferred, KINDS.index(_kind(first or ""))] = scores[preferred]
        return table


SIMPLE: Mapping[str, tuple[str | None, int]] = {
    **{name: (None, int(name.rpartition("_")[2])) for name in POPULARITY},
    "own_history_30": ("own_30", 30),
    "own_history_365": ("own_365", 90),
    "hybrid": ("score", 30),
    "hybrid_recent": ("score_recent", 30),
    "cosine": ("text", 30),
}
"""Rankers of a single feature, by name: the feature that comes first, and the half-life of the popularity after it."""


def _kind(feature: str) -> str:
    if feature.startswith("own_"):
        return "again"
    if feature.startswith(("score", "text")):
        return "similar"
    return "popular" if feature.startswith(("popularity_", "trend_", "item_")) else "average"
