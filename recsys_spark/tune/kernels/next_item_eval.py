"""Next-item evaluation of item vectors as in ``evaluate_models``: rank all items, leave out those already seen;
a target among them is a miss."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys_spark.arrays.vectors import Matrix
from recsys_spark.evaluate.kernels.metrics import bootstrap_sums, interval, poisson_weights, rank_metrics
from recsys_spark.evaluate.kernels.scorers import ItemVectors, Scorer, UserHistories, target_ranks
from recsys_spark.items.kernels.whitening import Moments, whitening

DECAYS = (0.65, 0.75, 0.85)

SHRINKS = (0.1, 0.3, 1.0)

FIT, VALID, TEST = 0, 1, 2
"""Roles of events, as in ``evaluate.protocols``."""

_SCORES_PER_BATCH = 1 << 23

Rows = NDArray[np.int64]

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Histories:
    """Events of all users, each user's oldest first: ``items`` (e,) rows of the catalogue, ``owner`` (e,) ascending
    rows of users from 0, ``role`` (e,) FIT, VALID or TEST."""

    items: Rows
    owner: Rows
    role: NDArray[np.int8]

    def upto(self, last_role: int) -> "Histories":
        """Events of roles up to ``last_role``."""
        selected = self.role <= last_role
        return Histories(self.items[selected], self.owner[selected], self.role[selected])


@dataclass(frozen=True)
class NextItemResult:
    """Figures of vectors with one whitening (``shrink``, None for no whitening) and one decay. Per user, in the order
    of ``users``: (u,) hit rate and NDCG at 10."""

    shrink: float | None
    decay: float
    users: Rows
    hit_rate: Values
    ndcg: Values

    @property
    def figures(self) -> dict[str, float]:
        """Means over the users."""
        return {"hit_rate@10": round(float(self.hit_rate.mean()), 4), "ndcg@10": round(float(self.ndcg.mean()), 4)}

    @property
    def total(self) -> float:
        """Hit rate + NDCG, the criterion for choosing settings, as in ``evaluate_models``."""
        return float(self.hit_rate.mean() + self.ndcg.mean())


def evaluate_next_item(
    vectors: Matrix, histories: Histories, decay: float, role: int, shrink: float | None = None
) -> NextItemResult:
    """Rank all items for every user with an event of ``role`` (VALID or TEST) and one before it."""
    if shrink is not None:
        vectors = whitening(Moments.of(vectors), shrink).apply(vectors)
    return evaluate_scorer(ItemVectors(vectors), len(vectors), histories, role, decay, shrink)


def evaluate_scorer(
    scorer: Scorer, count: int, histories: Histories, role: int, decay: float = 1.0, shrink: float | None = None
) -> NextItemResult:
    """The same for any scorer of ``count`` items. ``decay``: of its histories; ``shrink``: for the record."""
    users = np.intersect1d(histories.owner[histories.role == role], histories.owner[histories.role < role])
    seen, is_target = histories.upto(role - 1), histories.role == role
    per_batch: list[tuple[Values, Values]] = []
    size = max(1, _SCORES_PER_BATCH // count)
    for start in range(0, len(users), size):
        batch = users[start : start + size]
        in_seen, in_targets = np.isin(seen.owner, batch), is_target & np.isin(histories.owner, batch)
        owner, items = np.searchsorted(batch, seen.owner[in_seen]), seen.items[in_seen]
        weights = decay ** newer_events(owner)
        pooled = sp.csr_array((weights, (owner, items)), shape=(len(batch), count))
        offsets = np.append(0, np.cumsum(np.bincount(owner, minlength=len(batch))))
        scores = scorer.scores(UserHistories(pooled, items, offsets))
        target_owner = np.searchsorted(batch, histories.owner[in_targets])
        ranks = target_ranks(scores, (owner, items), target_owner, histories.items[in_targets])
        metrics = rank_metrics(ranks, target_owner, len(batch), 10)
        per_batch.append((metrics["hit_rate"], metrics["ndcg"]))
    hit_rate, ndcg = (np.concatenate(part) for part in zip(*per_batch, strict=True))
    return NextItemResult(shrink, decay, users, hit_rate, ndcg)


def best_on_validation(vectors: Matrix, histories: Histories, shrinks: Iterable[float | None]) -> NextItemResult:
    """The best whitening and decay on validation: the whitening at the middle decay, then the decay."""
    first = max(
        (evaluate_next_item(vectors, histories, DECAYS[1], VALID, shrink) for shrink in shrinks),
        key=lambda result: result.total,
    )
    others = [
        evaluate_next_item(vectors, histories, decay, VALID, first.shrink) for decay in DECAYS if decay != first.decay
    ]
    return max([first, *others], key=lambda result: result.total)


def gain(tuned: Values, base: Values, seed: int, replicates: int = 1000) -> tuple[float, float, float]:
    """The mean of ``tuned − base`` over the same users or pairs, and its 95 % bootstrap interval (low, high)."""
    difference = (tuned - base)[:, None]
    sums, counts = bootstrap_sums(difference, poisson_weights(np.arange(len(tuned)), replicates, seed))
    low, high = interval(sums[:, 0] / np.maximum(counts[:, 0], 1.0))
    return float(difference.mean()), low, high


def newer_events(owner: Rows) -> Rows:
    """(e,) number of later events of the same user; ``owner`` is ascending."""
    ends = np.searchsorted(owner, owner, side="right")
    return ends - 1 - np.arange(len(owner))
