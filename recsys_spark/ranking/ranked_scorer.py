"""Rank the candidates of a batch of users: the scorer of the default lists, and the examples that it learns from."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys_spark.arrays.arrow import as_lists, slices
from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.hybrid.history_scorer import USERS_AT_ONCE
from recsys_spark.ranking.candidate_search import CandidateSearch, code_lists, keys_of
from recsys_spark.ranking.kernels.code_lists import Rows
from recsys_spark.ranking.kernels.features import FEATURES, ITEM_FEATURES, Candidates, Floats, pair_features
from recsys_spark.ranking.kernels.rankers import Ranker
from recsys_spark.ranking.kernels.sampling import sampled
from recsys_spark.ranking.reasons import reason_lists, sources_of
from recsys_spark.runtime.task import PYTHON_BYTES
from recsys_spark.tables.contract import ARROW_TYPES, REASONS
from recsys_spark.tables.task_stream import ArrowTransform, TaskStats
from recsys_spark.topk.kernels.running_topk import EMPTY, Entries, RunningTopK, ordinals_of
from recsys_spark.topk.lists import ListRules, as_rows

_PAIRS_AT_ONCE = 200_000
"""Candidates whose features are in memory at once."""

SOURCES = ("own", "similar", "popular")
"""Column ``source`` of a list: the user had the item; it has a score by the history; neither."""

_XGBOOST_BYTES = 80_000_000

USER_ROWS = 4096
"""Users that a task collects candidates for at once."""

EXAMPLE_DDL = (
    "user bigint, item bigint, relevant boolean, had boolean, wanted int, wanted_new int, features array<float>"
)


def task_bytes(items: ItemBlocks, by_score: int) -> int:
    """Estimate the peak memory of a task's Python process in bytes.

    It is the sum of: the interpreter, its libraries and XGBoost; one item block with 100 neighbours of an item; the
    scores of some users with every item of a block; histories of 100 items; the candidates of the users of a batch,
    some twice; the features of some of them.
    """
    rows = min(items.block_rows, items.rows)
    candidates = USER_ROWS * (by_score + 400)
    block = rows * (100 * 60 + 4 * len(ITEM_FEATURES) + 64 + 8 * items.dimension)
    return (
        PYTHON_BYTES
        + _XGBOOST_BYTES
        + block
        + USERS_AT_ONCE * rows * 12
        + USER_ROWS * (100 * 60 + 12 * items.dimension)
        + 60 * candidates
        + _PAIRS_AT_ONCE * len(FEATURES) * 12
    )


class RankedCandidates:
    """The candidates of a batch of users with their features, a part of the users at a time."""

    def __init__(self, search: CandidateSearch) -> None:
        self.candidates, self.items, self.item_rows = search.candidates()
        self._users = search.users
        self._user_features = search.users.features()

    def parts(self) -> Iterator[tuple[slice, Candidates, Floats]]:
        """(slice of the candidates, these, their features), whole users at a time."""
        if not len(self.candidates.users):
            return
        borders = np.flatnonzero(np.r_[True, self.candidates.users[1:] != self.candidates.users[:-1], True])
        first = 0
        while first < len(borders) - 1:
            last = max(first + 1, int(np.searchsorted(borders, borders[first] + _PAIRS_AT_ONCE, "right")) - 1)
            rows = slice(int(borders[first]), int(borders[last]))
            part = self.candidates.part(rows)
            of_items = self.items.features[self.item_rows[rows]]
            yield rows, part, pair_features(part, self._users, self._user_features, of_items)
            first = last


@dataclass(frozen=True)
class RankedScorerFactory:
    """Makes the scorers of the batches of a task (``ScorerFactory``). Small: it is serialized into every task.

    Args:
        ranker: ranks the candidates.
        by_score: candidates by history of each user.
        reasons: number of reasons of each row; 0 for none.
        language: of the reasons.
    """

    ranker: Ranker
    by_score: int
    reasons: int = 0
    language: str = "en"

    def __call__(self, part: pa.Table, items: ItemBlocks, k: int, rules: ListRules) -> "RankedScorer":
        """The scorer of a batch of users."""
        return RankedScorer(part, items, k, rules, self)


class RankedScorer:
    """Top-K lists of a batch of users by a ranker: candidates at every block, features and ranks after the last one."""

    def __init__(
        self, part: pa.Table, items: ItemBlocks, k: int, rules: ListRules, settings: RankedScorerFactory
    ) -> None:
        self.ids: pa.ChunkedArray = part["user_id"]
        self._items, self._k, self._rules, self._settings = items, k, rules, settings
        self._search = CandidateSearch(part, items, settings.by_score, rules)
        self._result: _Listed | None = None

    def update(self, block: pa.RecordBatch) -> None:
        """Collect the candidates in a block."""
        self._search.update(block)

    @property
    def unfilled_slots(self) -> int:
        """Number of list positions without an item, over all users."""
        return int((self._listed().entries == EMPTY).sum())

    def recall_samples(self) -> list[tuple[int, float]]:
        """Return no samples: there is no exact list that these lists approximate."""
        return []

    def lists(self) -> Iterator[pa.RecordBatch]:
        """Finished lists as rows with ``reasons`` and ``source``, in the order of users and ranks."""
        listed, first = self._listed(), 0
        reasons = self._reasons(listed)
        for rows in as_rows(self._items, self.ids, listed.entries):
            part = slice(first, first + rows.num_rows)
            named = rows.append_column("reasons", reasons[part]).append_column("source", listed.sources[part])
            yield named
            first += rows.num_rows

    def _listed(self) -> "_Listed":
        if self._result is None:
            queries = np.empty((len(self.ids), 0), np.float32)
            best = RunningTopK(queries, self._k, min_score=self._rules.min_score, quota=self._rules.quota)
            ranked = RankedCandidates(self._search)
            parts = [self._rank(ranked, best, *part) for part in ranked.parts()]
            pins = self._search.pins
            self._result = _Listed.of(best.entries if pins is None else pins.applied(best.entries), parts)
        return self._result

    def _rank(
        self, ranked: RankedCandidates, best: RunningTopK, rows: slice, part: Candidates, features: Floats
    ) -> "_Part":
        """Offer the candidates of some users; (their keys, source and contributions) of those that are listed."""
        of_item = ranked.item_rows[rows]
        boosts = ranked.items.boosts[of_item]
        if self._search.batch is not None:
            boosts = boosts + self._search.batch.boosts(part.users, ranked.items.atoms, of_item)
        groups = ranked.items.groups[of_item] if self._rules.quota else None
        scores = (self._settings.ranker.scores(features) + boosts).astype(np.float32)
        best.offer(part.users, scores, part.ordinals, groups=groups)
        entries = best.entries[part.users[0] : part.users[-1] + 1]
        owners, places = np.nonzero(entries != EMPTY)
        listed = keys_of(owners + part.users[0], ordinals_of(entries[owners, places]))
        keys = keys_of(part.users, part.ordinals)
        listed = np.concatenate([listed, *self._put_pins(part, keys, scores)])
        chosen = np.flatnonzero(np.isin(keys, listed))
        sources = np.where(part.own[chosen] >= 0, 0, np.where(part.scores[chosen] > 0, 1, 2)).astype(np.int8)
        if not self._settings.reasons:
            return keys[chosen], sources, np.empty((len(chosen), 0))
        values = self._settings.ranker.contributions(features[chosen])
        return keys[chosen], sources, np.column_stack([values, boosts[chosen]])

    def _put_pins(self, part: Candidates, keys: NDArray[np.uint64], scores: Floats) -> Iterator[NDArray[np.uint64]]:
        """Give the pinned pairs among the candidates their scores, and return their keys."""
        for number, users, ordinals in self._search.pinned if self._search.pins else ():
            wanted = keys_of(users, ordinals)
            places = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
            places = places[keys[places] == wanted]
            assert self._search.pins is not None
            self._search.pins.put(number, part.users[places], scores[places], part.ordinals[places])
            yield keys[places]

    def _reasons(self, listed: "_Listed") -> pa.Array:
        users, places = np.nonzero(listed.entries != EMPTY)
        if not self._settings.reasons:
            return pa.nulls(len(users), ARROW_TYPES[REASONS])
        ordinals = ordinals_of(listed.entries[users, places])
        sources = sources_of(self._items, users, ordinals, self._search.histories, self._search.history_weights)
        return reason_lists(listed.contributions, sources, self._settings.reasons, self._settings.language)


_Part = tuple[NDArray[np.uint64], NDArray[np.int8], NDArray[np.float64]]
"""(keys ascending, source, contributions) of listed items."""


@dataclass(frozen=True)
class _Listed:
    """Finished lists, and the source and contributions of each of their entries, in the order of users and ranks."""

    entries: Entries
    sources: pa.Array
    contributions: NDArray[np.float64]

    @classmethod
    def of(cls, entries: Entries, parts: list[_Part]) -> "_Listed":
        users, places = np.nonzero(entries != EMPTY)
        if not parts:
            return cls(entries, pa.array([], pa.string()), np.empty((0, 0)))
        keys, sources, contributions = (np.concatenate(column) for column in zip(*parts, strict=True))
        rows = np.searchsorted(keys, keys_of(users, ordinals_of(entries[users, places])))
        return cls(entries, pa.array(SOURCES).take(pa.array(sources[rows])), contributions[rows])


def example_rows(items: ItemBlocks, by_score: int, rules: ListRules, negatives: int) -> ArrowTransform:
    """Transform users with their rules and ``wanted`` (array<bigint>: codes of items, ascending) to EXAMPLE_DDL.

    With ``negatives`` users keep the candidates that they wanted and this number of others, drawn by a hash of user and
    item; with 0 they keep all.
    """

    def transform(batches: Iterator[pa.RecordBatch], _: TaskStats) -> Iterator[pa.RecordBatch]:
        for part in slices(batches, USER_ROWS):
            search = CandidateSearch(part, items, by_score, rules)
            for block in items.blocks():
                search.update(block)
            ranked = RankedCandidates(search)
            for rows, candidates, features in ranked.parts():
                yield _examples(
                    part, search, candidates, ranked.items.codes[ranked.item_rows[rows]], features, negatives
                )

    return transform


def _examples(
    part: pa.Table, search: CandidateSearch, candidates: Candidates, items: Rows, features: Floats, negatives: int
) -> pa.RecordBatch:
    wanted, owners = code_lists(part["wanted"]), candidates.users
    relevant, had = wanted.entries(owners, items) >= 0, candidates.own >= 0
    again = search.users.items.entries(wanted.users, wanted.codes) >= 0
    new = wanted.sizes - np.bincount(wanted.users[again], minlength=len(part))
    users = part["user_code"].to_numpy()[owners]
    kept = relevant | sampled(users, items, ~relevant, negatives) if negatives else np.ones(len(users), bool)
    columns = [
        pa.array(users[kept]),
        pa.array(items[kept]),
        pa.array(relevant[kept]),
        pa.array(had[kept]),
        pa.array(wanted.sizes[owners][kept].astype(np.int32)),
        pa.array(new[owners][kept].astype(np.int32)),
        as_lists(features[kept]),
    ]
    return pa.RecordBatch.from_arrays(columns, names=[one.split()[0] for one in EXAMPLE_DDL.split(", ")])
