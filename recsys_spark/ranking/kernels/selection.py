"""Choose the ranker on users that it was not trained on."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_spark.arrays.intervals import half_width
from recsys_spark.ranking.kernels.code_lists import Rows
from recsys_spark.ranking.kernels.features import Floats

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Examples:
    """Candidates of users whose choices in a window are known, ascending by user.

    Args:
        users: (C,) code of the user, of users of one window.
        items: (C,) code of the item.
        features: (C, F).
        relevant: (C,) whether the user chose the item in the window.
        had: (C,) whether the user had the item before it.
        wanted: (C,) number of items that the user chose in the window, among the candidates or not.
        wanted_new: (C,) those of them that were new to the user.
    """

    users: Rows
    items: Rows
    features: Floats
    relevant: Mask
    had: Mask
    wanted: Rows
    wanted_new: Rows

    def part(self, rows: Mask) -> "Examples":
        """Some of the candidates."""
        return Examples(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def with_others(self, others: "Examples") -> "Examples":
        """These candidates and those of another window."""
        return Examples(
            *(np.concatenate([getattr(self, name), getattr(others, name)]) for name in self.__dataclass_fields__)
        )

    def ndcg(self, scores: Floats, k: int, *, repeats: bool) -> NDArray[np.float64]:
        """(U,) NDCG@k of the list of each user, ascending by user (Järvelin and Kekäläinen, TOIS 2002; binary gains).

        ``repeats``: whether items that the user had may be listed. Users who wanted nothing that counts are left out.
        """
        scores = scores if repeats else np.where(self.had, -np.inf, scores).astype(np.float32)
        order = np.lexsort((-scores, self.users))
        starts = np.flatnonzero(np.r_[True, self.users[1:] != self.users[:-1]])
        places = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
        hits = self.relevant[order] & (places < k) & np.isfinite(scores[order])
        gains = np.add.reduceat(np.where(hits, 1 / np.log2(places + 2.0), 0.0), starts)
        wanted = (self.wanted if repeats else self.wanted_new)[starts]
        ideal = np.r_[0.0, np.cumsum(1 / np.log2(np.arange(k) + 2.0))][np.minimum(wanted, k)]
        return gains[wanted > 0] / ideal[wanted > 0]


@dataclass(frozen=True)
class Difference:
    """Mean of a ranker minus that of another one over the same users, with half of its 95 % interval."""

    mean: float
    half: float


def difference(better: NDArray[np.float64], worse: NDArray[np.float64]) -> Difference:
    """The paired difference of two rankers: (U,) figures of the same users."""
    deltas = better - worse
    error = deltas.std(ddof=1) / np.sqrt(len(deltas)) if len(deltas) > 1 else np.inf
    return Difference(float(deltas.mean()), half_width(float(error)))


def best_of(figures: Mapping[str, NDArray[np.float64]]) -> str:
    """The name of the greatest mean; the first of equals, so that simple rankers come first."""
    return max(figures, key=lambda name: round(float(figures[name].mean()), 9))
