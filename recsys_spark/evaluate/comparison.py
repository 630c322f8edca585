"""Users with their events against scorers: the sums that means, intervals and exposure are made of.

A task scores all items for some users at a time, ranks what is right and adds up; no score and no user leaves it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys_spark.arrays.arrow import slices
from recsys_spark.arrays.sparse import flat
from recsys_spark.evaluate.kernels.metrics import (
    bootstrap_sums,
    intra_list_diversity,
    novelty,
    poisson_weights,
    rank_metrics,
)
from recsys_spark.evaluate.kernels.scorer_files import ScorerFiles, open_array, open_scorer
from recsys_spark.evaluate.kernels.scorers import Scorer, target_ranks
from recsys_spark.evaluate.protocols import FIT, TEST, VALID

METRICS = ("hit_rate", "recall", "precision", "ndcg", "mrr", "map", "novelty", "diversity")

SUMS_DDL = "number int, slice string, users bigint, sums binary, exposure binary"

_SUMS_SCHEMA = pa.schema(
    {"number": pa.int32(), "slice": pa.string(), "users": pa.int64(), "sums": pa.binary(), "exposure": pa.binary()}
)

_CELLS = 1 << 24

_HISTORY_BORDERS = (5, 10)


@dataclass(frozen=True)
class Candidate:
    """A scorer with its setting. ``model`` from ``keep_scorer``; an event counts ``decay`` per newer one."""

    scorer: str
    model: ScorerFiles
    decay: float
    setting: dict[str, float] = field(hash=False)


@dataclass(frozen=True)
class EvaluationSpec:
    """What is asked of every contestant.

    Args:
        test: the test events are right; else those of validation.
        mask_seen: items of the history are not candidates.
        k: the k of the metrics.
        items: how many there are.
        facts: folder of ``counts.npy`` (events fitted on, per item), ``lengths.npy`` (words of its text),
            ``shared.npy`` (whether another item has the same text) and ``vectors.npy`` (unit, for diversity).
        replicates: of the bootstrap, 0 for none; with it slices, exposure, novelty and diversity are measured too.
        seed: of the bootstrap.
    """

    test: bool
    mask_seen: bool
    k: int
    items: int
    facts: str
    replicates: int
    seed: int


def compared(
    contestants: Sequence[Candidate], question: EvaluationSpec
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """For ``mapInArrow``: rows of ``protocols.user_rows`` to SUMS_DDL, one row per contestant and slice.

    ``sums``: float64 (2, 1 + replicates, metrics): Σ and how many, over the users themselves and each replicate;
    ``exposure``: int64 (items,), how many lists show an item.
    """

    def compare(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows = max(1, min(2048, _CELLS // max(question.items, 1)))
        facts = _Facts(question)
        scorers = [open_scorer(contestant.model) for contestant in contestants]
        totals: dict[tuple[int, str], _Total] = {}
        for part in slices(batches, rows):
            asked = _UserBatch(part, question, facts)
            if not asked.users:
                continue
            for number, (contestant, scorer) in enumerate(zip(contestants, scorers, strict=True)):
                for name, found in asked.judge(scorer, contestant.decay):
                    totals[number, name] = totals[number, name] + found if (number, name) in totals else found
        for (number, name), total in totals.items():
            row = {"number": number, "slice": name, "users": total.users}
            row |= {"sums": total.sums.tobytes(), "exposure": total.exposure.tobytes()}
            yield pa.RecordBatch.from_pylist([row], _SUMS_SCHEMA)

    return compare


def merged(rows: Sequence[Any], question: EvaluationSpec) -> dict[tuple[int, str], "_Total"]:
    """Rows of all tasks, added up by contestant and slice."""
    totals: dict[tuple[int, str], _Total] = {}
    for row in rows:
        sums = np.frombuffer(row["sums"], np.float64).reshape(2, 1 + question.replicates, -1)
        found = _Total(row["users"], sums, np.frombuffer(row["exposure"], np.int64))
        key = row["number"], row["slice"]
        totals[key] = totals[key] + found if key in totals else found
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
        """(1 + replicates, metrics): the mean over users, then over those of each replicate."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.sums[0] / self.sums[1]


class _Facts:
    def __init__(self, question: EvaluationSpec) -> None:
        self.counts = open_array(f"{question.facts}/counts.npy")
        self.lengths = open_array(f"{question.facts}/lengths.npy")
        self.shared = open_array(f"{question.facts}/shared.npy")
        self.vectors = open_array(f"{question.facts}/vectors.npy")
        busy = np.sort(self.counts)[::-1].cumsum()
        head = int(np.searchsorted(busy, 0.5 * busy[-1])) if len(busy) else 0
        self.popular = np.sort(self.counts)[::-1][head] if len(busy) else 0
        self.wordy = np.median(self.lengths) if len(self.lengths) else 0


class _UserBatch:
    """Some users, what is known of them and what is right: an item that comes again in the test is one answer."""

    def __init__(self, part: pa.Table, question: EvaluationSpec, facts: _Facts) -> None:
        items, offsets = flat(part["items"].combine_chunks())
        roles, weights = (flat(part[name].combine_chunks())[0] for name in ("roles", "weights"))
        owner = np.repeat(np.arange(len(part)), np.diff(offsets))
        right = roles == (TEST if question.test else VALID)
        known = (roles == FIT) | ((roles == VALID) & question.test)
        if not question.test:
            known &= ~right
        asked, lengths = (np.bincount(owner[kind], minlength=len(part)) for kind in (right, known))
        able = (asked > 0) & (lengths > 0)
        number = np.cumsum(able) - 1
        known, right = known & able[owner], right & able[owner]
        self.users, self._question, self._facts = int(able.sum()), question, facts
        answers = np.unique(number[owner[right]] * question.items + items[right])
        self._owners, self._targets = np.divmod(answers, question.items)
        self._known = number[owner[known]], items[known].astype(np.int64)
        self._lengths = lengths[able]
        self._groups = part["groups"].filter(pa.array(able)).to_pylist()
        newer = np.concatenate([np.arange(n)[::-1] for n in self._lengths] or [np.empty(0)])
        self._newer, self._weights = newer, weights[known].astype(np.float64)
        hashes = part["user_hash"].to_numpy()[able]
        self._draws = poisson_weights(hashes, question.replicates, question.seed)

    def judge(self, scorer: Scorer, decay: float) -> Iterator[tuple[str, _Total]]:
        """Name of a slice and its sums."""
        shape = (self.users, self._question.items)
        histories = sp.csr_array((self._weights * decay**self._newer, self._known), shape=shape)
        scores = scorer.scores(histories)
        nobody: NDArray[np.int64] = np.empty(0, np.int64)
        seen = self._known if self._question.mask_seen else (nobody, nobody)
        ranks = target_ranks(scores, seen, self._owners, self._targets)
        if not self._question.replicates:
            yield "all", self._total(ranks, np.full(len(ranks), True), None)
            return
        lists = _top(scores, self._question.k)
        for name, targets in self._slices().items():
            yield name, self._total(ranks, targets, lists if name == "all" else None)

    def _total(self, ranks: NDArray[np.float64], targets: NDArray[np.bool_], lists: NDArray[np.int64] | None) -> _Total:
        question = self._question
        found = rank_metrics(ranks[targets], self._owners[targets], self.users, question.k)
        nothing = np.full(self.users, np.nan)
        found |= {"novelty": nothing, "diversity": nothing}
        exposure = np.zeros(question.items if lists is not None else 0, np.int64)
        if lists is not None:
            found["novelty"] = novelty(lists, self._facts.counts)
            found["diversity"] = intra_list_diversity(self._facts.vectors, lists)
            exposure += np.bincount(lists[lists >= 0], minlength=question.items)
        values = np.column_stack([found[name] for name in METRICS])
        whole = bootstrap_sums(values, np.ones((self.users, 1), np.uint8))
        parts = [whole, bootstrap_sums(values, self._draws)] if question.replicates else [whole]
        sums = np.stack([np.concatenate([part[i] for part in parts]) for i in (0, 1)])
        return _Total(int((~np.isnan(found["hit_rate"])).sum()), sums, exposure)

    def _names(self) -> list[str]:
        return sorted({name for groups in self._groups for name in groups or ()})

    def _slices(self) -> dict[str, NDArray[np.bool_]]:
        """Which targets belong to each slice."""
        facts, own = self._facts, self._targets
        counts, lengths = facts.counts[own], facts.lengths[own]
        history, (short, middle) = self._lengths[self._owners], _HISTORY_BORDERS
        named = {name: [name in (groups or ()) for groups in self._groups] for name in self._names()}
        return {f"users: {name}": np.array(there)[self._owners] for name, there in named.items()} | {
            "all": np.full(len(self._targets), True),
            "items: head (half of all events)": counts >= facts.popular,
            "items: tail": (counts < facts.popular) & (counts > 0),
            "items: cold": counts == 0,
            f"history: below {short}": history < short,
            f"history: {short} to {middle}": (history >= short) & (history <= middle),
            f"history: above {middle}": history > middle,
            "text: none": lengths == 0,
            "text: short": (lengths < facts.wordy) & (lengths > 0),
            "text: long": (lengths >= facts.wordy) & (lengths > 0),
            "text: of several items": facts.shared[own] & (lengths > 0),
        }


def _top(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """(U, k) the items of greatest score, −1 where fewer are candidates; of equal scores any."""
    k = min(k, scores.shape[1])
    best = np.argpartition(scores, scores.shape[1] - k, axis=1)[:, -k:]
    return np.where(np.isneginf(np.take_along_axis(scores, best, axis=1)), -1, best)
