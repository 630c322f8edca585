"""Evaluate scorers on users under a protocol: sums for means, bootstrap intervals and exposure.

A task scores all items for a batch of users, ranks the relevant items and sums up the metrics. Only the sums leave the
task: no scores, no users.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys_spark.arrays.arrow import slices
from recsys_spark.arrays.sparse import flat
from recsys_spark.arrays.vectors import Matrix
from recsys_spark.evaluate.kernels.metrics import (
    bootstrap_sums,
    intra_list_diversity,
    novelty,
    poisson_weights,
    rank_metrics,
)
from recsys_spark.evaluate.kernels.scorer_files import ScorerFiles, open_array, open_scorer
from recsys_spark.evaluate.kernels.scorers import Scorer, UserHistories, target_ranks
from recsys_spark.evaluate.protocols import FIT, TEST, VALID

METRICS = ("hit_rate", "recall", "precision", "ndcg", "mrr", "map", "novelty", "diversity")

SUMS_DDL = "number int, slice string, users bigint, sums binary, exposure binary"

_SUMS_SCHEMA = pa.schema(
    {"number": pa.int32(), "slice": pa.string(), "users": pa.int64(), "sums": pa.binary(), "exposure": pa.binary()}
)

_SCORES_AT_ONCE = 1 << 24

_HISTORY_BORDERS = (5, 10)

REPEATS = "items: repeat (in the history)"

RANKED_SEEN = "seen targets: ranked"
"""The name of the totals of all users under ``seen_targets="rank"``, beside those of ``"miss"``."""


@dataclass(frozen=True)
class Candidate:
    """A scorer with one setting. ``model`` comes from ``write_scorer``; each newer event multiplies the weight of an
    event by ``decay``; each ``half_life``, in days up to the user's newest event, halves it."""

    scorer: str
    model: ScorerFiles
    decay: float
    setting: dict[str, float] = field(hash=False)
    half_life: float | None = None


@dataclass(frozen=True)
class EvaluationSpec:
    """The conditions under which all candidates are evaluated.

    Args:
        test: the test events are relevant; otherwise those of validation.
        mask_seen: leave items of the history out of the ranking.
        seen_targets: with ``mask_seen``, a relevant item of the history is a ``miss``, as in a list that never shows
            it, or has a ``rank``: it alone of the history is ranked.
        k: cut-off of the metrics.
        items: number of items.
        statistics_uri: folder of ``counts.npy`` (fitted events per item), ``lengths.npy`` (words of the item's text),
            ``shared.npy`` (whether another item has the same text) and ``vectors.npy`` (unit vectors, for diversity).
        replicates: bootstrap replicates; 0 for none. With replicates, slices, exposure, novelty and diversity are
            measured too.
        seed: of the bootstrap.
    """

    test: bool
    mask_seen: bool
    seen_targets: Literal["miss", "rank"]
    k: int
    items: int
    statistics_uri: str
    replicates: int
    seed: int


def candidate_sums(
    candidates: Sequence[Candidate], spec: EvaluationSpec
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """For ``mapInArrow``: rows of ``protocols.user_rows`` to SUMS_DDL, one row per candidate and slice.

    ``sums``: float64 (2, 1 + replicates, metrics), the sum of the values and the number of users, over the users
    themselves and over each replicate. ``exposure``: int64 (items,), the number of lists with an item.
    """

    def evaluate(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        batch_users = max(1, min(2048, _SCORES_AT_ONCE // max(spec.items, 1)))
        statistics = _ItemStatistics(spec.statistics_uri)
        scorers = [open_scorer(candidate.model) for candidate in candidates]
        totals: dict[tuple[int, str], _Total] = {}
        for rows in slices(batches, batch_users):
            users = _UserBatch(rows, spec, statistics)
            if not users.count:
                continue
            for number, (candidate, scorer) in enumerate(zip(candidates, scorers, strict=True)):
                for name, total in users.evaluate(scorer, candidate):
                    totals[number, name] = totals[number, name] + total if (number, name) in totals else total
        for (number, name), total in totals.items():
            row = {"number": number, "slice": name, "users": total.users}
            row |= {"sums": total.sums.tobytes(), "exposure": total.exposure.tobytes()}
            yield pa.RecordBatch.from_pylist([row], _SUMS_SCHEMA)

    return evaluate


def merge_totals(rows: Sequence[Any], spec: EvaluationSpec) -> dict[tuple[int, str], "_Total"]:
    """Add the rows of all tasks by candidate and slice."""
    totals: dict[tuple[int, str], _Total] = {}
    for row in rows:
        sums = np.frombuffer(row["sums"], np.float64).reshape(2, 1 + spec.replicates, -1)
        total = _Total(row["users"], sums, np.frombuffer(row["exposure"], np.int64))
        key = row["number"], row["slice"]
        totals[key] = totals[key] + total if key in totals else total
    return totals


@dataclass(frozen=True)
class _Total:
    users: int
    sums: NDArray[np.float64]
    exposure: NDArray[np.int64]

    def __add__(self, other: "_Total") -> "_Total":
        return _Total(self.users + other.users, self.sums + other.sums, self.exposure + other.exposure)

    @property
    def means(self) -> NDArray[np.float64]:
        """(1 + replicates, metrics): the mean over the users, then over those of each replicate."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.sums[0] / self.sums[1]


class _ItemStatistics:
    """Arrays of all items. Items with at least ``popular_count`` events have half of all events."""

    def __init__(self, uri: str) -> None:
        self.counts = open_array(f"{uri}/counts.npy")
        self.lengths = open_array(f"{uri}/lengths.npy")
        self.shared = open_array(f"{uri}/shared.npy")
        self.vectors = open_array(f"{uri}/vectors.npy")
        descending = np.sort(self.counts)[::-1]
        total = descending.cumsum()
        self.popular_count = descending[np.searchsorted(total, 0.5 * total[-1])] if len(total) else 0
        self.median_length = np.median(self.lengths) if len(self.lengths) else 0


class _UserBatch:
    """The users of a batch who have relevant items. A repeated relevant item counts once.

    Users without a history are new. On the test they have a slice of their own and are in no other one; a scorer that
    scores all items alike for them, since it knows users by their histories only, has no list and finds nothing.
    """

    def __init__(self, rows: pa.Table, spec: EvaluationSpec, statistics: _ItemStatistics) -> None:
        items, offsets = flat(rows["items"].combine_chunks())
        roles, weights, days = (flat(rows[name].combine_chunks())[0] for name in ("roles", "weights", "days"))
        owner = np.repeat(np.arange(len(rows)), np.diff(offsets))
        is_target = roles == (TEST if spec.test else VALID)
        is_history = (roles == FIT) | (roles == VALID) if spec.test else roles == FIT
        targets, lengths = (np.bincount(owner[mask], minlength=len(rows)) for mask in (is_target, is_history))
        usable = (targets > 0) & ((lengths > 0) | (spec.replicates > 0))
        user = (np.cumsum(usable) - 1)[owner]
        is_history, is_target = is_history & usable[owner], is_target & usable[owner]
        self.count, self._spec, self._statistics = int(usable.sum()), spec, statistics
        pairs, first = np.unique(user[is_target] * spec.items + items[is_target], return_index=True)
        # Items are numbered in the order of their ids.
        follows = np.append(False, (np.diff(owner) == 0) & (np.diff(items) < 0))[: len(owner)]
        self._id_falls = follows[is_target][first]
        self._owners, self._targets = np.divmod(pairs, spec.items)
        self._history = user[is_history], items[is_history].astype(np.int64)
        self._repeated = np.isin(pairs, self._history[0] * spec.items + self._history[1])
        self._lengths = lengths[usable]
        self._is_new = self._lengths == 0
        self._groups = rows["groups"].filter(pa.array(usable)).to_pylist()
        self._newer_events = np.concatenate([np.arange(n)[::-1] for n in self._lengths] or [np.empty(0)])
        self._weights = weights[is_history].astype(np.float64)
        newest = np.full(self.count, -np.inf)
        np.maximum.at(newest, self._history[0], days[is_history])
        self._ages = newest[self._history[0]] - days[is_history]
        self._draws = poisson_weights(rows["user_hash"].to_numpy()[usable], spec.replicates, spec.seed)

    def evaluate(self, scorer: Scorer, candidate: Candidate) -> Iterator[tuple[str, _Total]]:
        """Yield the name and the sums of each slice."""
        shape = (self.count, self._spec.items)
        weights = self._weights * candidate.decay**self._newer_events
        if candidate.half_life is not None:
            weights *= 0.5 ** (self._ages / candidate.half_life)
        history = sp.csr_array((weights, self._history), shape=shape)
        scores = scorer.scores(UserHistories(history, self._history[1], np.append(0, np.cumsum(self._lengths))))
        warm, strict = ~self._is_new[self._owners], self._spec.mask_seen and self._spec.seen_targets == "miss"
        unlisted = self._is_new & (scores.min(axis=1) == scores.max(axis=1))
        if strict and self._spec.replicates:  # before the strict ranks, which overwrite more of the scores
            yield RANKED_SEEN, self._total(self._ranks(scores, rank_seen=True), warm, None)
        ranks = np.where(unlisted[self._owners], np.inf, self._ranks(scores, rank_seen=not strict))
        if not self._spec.replicates:
            yield "all", self._total(ranks, warm, None)
            return
        lists = np.where(self._is_new[:, None], -1, _top(scores, self._spec.k))
        for name, targets in self._slices.items():
            yield name, self._total(ranks, targets, lists if name == "all" else None)

    def _ranks(self, scores: Matrix, *, rank_seen: bool) -> NDArray[np.float64]:
        no_rows: NDArray[np.int64] = np.empty(0, np.int64)
        seen = self._history if self._spec.mask_seen else (no_rows, no_rows)
        return target_ranks(scores, seen, self._owners, self._targets, rank_seen=rank_seen)

    def _total(self, ranks: NDArray[np.float64], targets: NDArray[np.bool_], lists: NDArray[np.int64] | None) -> _Total:
        """The sums of a slice of the targets. Novelty, diversity and exposure need ``lists``, (users, k) items."""
        spec = self._spec
        metrics = rank_metrics(ranks[targets], self._owners[targets], self.count, spec.k)
        undefined = np.full(self.count, np.nan)
        metrics |= {"novelty": undefined, "diversity": undefined}
        exposure = np.zeros(spec.items if lists is not None else 0, np.int64)
        if lists is not None:
            metrics["novelty"] = novelty(lists, self._statistics.counts)
            metrics["diversity"] = intra_list_diversity(self._statistics.vectors, lists)
            exposure += np.bincount(lists[lists >= 0], minlength=spec.items)
        values = np.column_stack([metrics[name] for name in METRICS])
        users = np.flatnonzero(~np.isnan(metrics["hit_rate"]))  # most slices have a few of the users
        parts = [bootstrap_sums(values[users], np.ones((len(users), 1), np.uint8))]
        if spec.replicates:
            parts.append(bootstrap_sums(values[users], self._draws[users]))
        sums = np.stack([np.concatenate([part[i] for part in parts]) for i in (0, 1)])
        return _Total(len(users), sums, exposure)

    def _group_names(self) -> list[str]:
        return sorted({name for groups in self._groups for name in groups or ()})

    @cached_property
    def _slices(self) -> dict[str, NDArray[np.bool_]]:
        """Mark the targets of each slice. "all" and all slices but one are of users with a history."""
        statistics, targets = self._statistics, self._targets
        counts, lengths = statistics.counts[targets], statistics.lengths[targets]
        history, (short, middle) = self._lengths[self._owners], _HISTORY_BORDERS
        members = {name: [name in (groups or ()) for groups in self._groups] for name in self._group_names()}
        slices = {f"users: {name}": np.array(member)[self._owners] for name, member in members.items()} | {
            "all": np.full(len(targets), True),
            "items: head (half of all events)": counts >= statistics.popular_count,
            "items: tail": (counts < statistics.popular_count) & (counts > 0),
            "items: cold": counts == 0,
            REPEATS: self._repeated,
            f"history: below {short}": history < short,
            f"history: {short} to {middle}": (history >= short) & (history <= middle),
            f"history: above {middle}": history > middle,
            "order: id falls": self._id_falls,
            "text: none": lengths == 0,
            "text: short": (lengths < statistics.median_length) & (lengths > 0),
            "text: long": (lengths >= statistics.median_length) & (lengths > 0),
            "text: of several items": statistics.shared[targets] & (lengths > 0),
        }
        warm = history > 0
        return {name: of_slice & warm for name, of_slice in slices.items()} | {"history: none (new users)": ~warm}


def _top(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """(U, k) the items with the greatest scores, in any order; −1 where fewer can be ranked. Ties are cut anywhere."""
    k = min(k, scores.shape[1])
    best = np.argpartition(scores, scores.shape[1] - k, axis=1)[:, -k:]
    return np.where(np.isneginf(np.take_along_axis(scores, best, axis=1)), -1, best)
