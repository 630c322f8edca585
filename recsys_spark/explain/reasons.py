"""Attribute scores to reasons: a score is a sum, so each term of it is a reason. Pure DataFrame functions.

A user's list and history come as two arrays of ids in one slim row; item vectors are never shuffled. A task reads the
item blocks once per batch of 1,024 users and keeps only the rows that these users need. A pass reads all items (4·n·d
bytes, and a hash of their ids) and holds at most users · (k + history) vectors. For a million items of 384 dimensions a
pass reads 1.5 GB from the page cache; the number of users does not matter.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys_spark.arrays.arrow import slices
from recsys_spark.arrays.id_index import IdIndex
from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.explain.kernels.attribution import (
    Contributions,
    Float64Array,
    best_of,
    deletion_fidelity,
    vector_contributions,
    weight_contributions,
)
from recsys_spark.explain.sentences import sentence
from recsys_spark.profiles.kernels.interests import interests_of, weights_of
from recsys_spark.tables.schemas import RECOMMENDATIONS
from recsys_spark.tables.task_stream import ArrowTransform, TaskStats

ItemRows = NDArray[np.int64]
"""Row numbers in ``_UserBatch.items``."""

COLLABORATIVE = "collaborative"

VECTOR = "vector"
"""The only feature block where the composition of item vectors is unknown."""

USERS_AT_ONCE = 1024

_PROFILE_VECTORS = ("own_text", "segment")


@dataclass(frozen=True)
class ExplainSpec:
    """How reasons are computed and worded.

    Args:
        most: maximum number of reasons of a row; one further reason sums up the rest.
        language: one of ``sentences.LANGUAGES``.
        widths: width of each feature block of an item vector; empty for sums of item weights.
        own_weights: weights of the user's own text and segment in the profile.
        boosted: whether the scores include each item's boost.
        interests: maximum number of interests of a user; a score is the greatest over the interests.
    """

    most: int
    language: str
    widths: Mapping[str, int]
    own_weights: tuple[float, float] = (0.0, 0.0)
    boosted: bool = False
    interests: int = 1


def reason_rows(
    items: ItemBlocks, spec: ExplainSpec, constant_columns: Mapping[str, Any], users_at_once: int = USERS_AT_ONCE
) -> ArrowTransform:
    """Transform rows of ``explanation_inputs`` into rows of ``recommendations``.

    Reasons are ordered by contribution. The contributions of a row add up to its score; ``share`` is a contribution
    over the sum of all absolute ones; the contributions of blocks add up to that of their reason. Reasons beyond
    ``spec.most`` are summed up in a last one of kind ``others``, so that a row adds up for any ``most``.

    Args:
        items: with ``title`` and ``boost``, and the vectors or weights that the scores are computed from.
        spec: how to explain.
        constant_columns: the values of ``run_date`` and ``model``.
        users_at_once: users per pass over the items; it changes no row.

    The task statistic ``fidelity`` holds the number of users and four sums over them: the mean loss of their scores
    without the top reason, the same without another reason, the difference of the two, and its square.
    """

    def transform(batches: Iterator[pa.RecordBatch], stats: TaskStats) -> Iterator[pa.RecordBatch]:
        fidelity = np.zeros(5)
        for part in slices(batches, users_at_once):
            rows: list[dict[str, Any]] = []
            users = _UserBatch(items, part, spec)
            for number in range(part.num_rows):
                explained = _ExplainedList(users, number)
                rows += [row | dict(constant_columns) for row in explained.rows()]
                fidelity += explained.fidelity()
            yield pa.RecordBatch.from_pylist(rows, RECOMMENDATIONS.arrow_schema)
        stats["fidelity"] = fidelity.tolist()

    return transform


class _UserBatch:
    """A batch of users, and the data of all items in their lists and histories."""

    def __init__(self, items: ItemBlocks, part: pa.Table, spec: ExplainSpec) -> None:
        self.spec, self.ids = spec, part["user_id"]
        self.profile_vectors = {name: part[name] for name in _PROFILE_VECTORS}
        self.listed, self.starts = _flattened(part["listed"])
        self.history, self.history_starts = _flattened(part["history"])
        self.items = pa.concat_arrays([rows.field("item_id") for rows in (self.listed, self.history)]).unique()
        self.listed_items, self.history_items = (
            pc.index_in(rows.field("item_id"), self.items).to_numpy(zero_copy_only=False).astype(np.int64)
            for rows in (self.listed, self.history)
        )
        count = len(self.items)
        self.in_blocks, self.boosts = np.zeros(count, bool), np.zeros(count)
        self.titles: list[str | None] = [None] * count
        self.vectors = np.zeros((count, items.dimension if spec.widths else 0), np.float32)
        self.item_weights: dict[int, tuple[ItemRows, Float64Array]] = {}
        index = IdIndex(self.items)
        for block in items.blocks() if count else ():
            numbers, block_rows = index.matches(block["item_id"])
            self._take(block.take(pa.array(block_rows)), numbers)
            del block

    def _take(self, rows: pa.RecordBatch, numbers: ItemRows) -> None:
        self.in_blocks[numbers] = True
        self.boosts[numbers] = rows["boost"].fill_null(0).to_numpy(zero_copy_only=False)
        for number, title in zip(numbers, rows["title"].to_pylist(), strict=True):
            self.titles[number] = title
        if self.spec.widths:
            self.vectors[numbers] = rows["embedding"].flatten().to_numpy().reshape(rows.num_rows, -1)
            return
        for row, number in enumerate(numbers):
            codes, weights = (rows[name][row].values.to_numpy() for name in ("neighbors", "weights"))
            self.item_weights[number] = codes, weights.astype(np.float64)


class _ExplainedList:
    """One user's list, and the terms of its scores."""

    def __init__(self, users: _UserBatch, number: int) -> None:
        self._users, self._number = users, number
        self._rows = range(users.starts[number], users.starts[number + 1])
        self._listed = users.listed_items[self._rows.start : self._rows.stop]
        events = np.arange(users.history_starts[number], users.history_starts[number + 1])
        if users.spec.widths:  # an item without a vector adds nothing to a profile
            events = events[users.in_blocks[users.history_items[events]]]
        self._events, self._kinds = events, ["history"] * len(events)
        self._weights = _column(users.history, "weight")[events].astype(np.float64)
        self._parts = self._of_vectors() if users.spec.widths else self._of_weights()
        self._totals = self._parts.values.sum(axis=2)
        self._blocks = list(users.spec.widths) or [COLLABORATIVE]

    def _of_vectors(self) -> Contributions:
        users, spec = self._users, self._users.spec
        weighted = zip(_PROFILE_VECTORS, spec.own_weights, strict=True)
        further = [(name, users.profile_vectors[name][self._number], weight) for name, weight in weighted if weight]
        further = [(name, vector.values.to_numpy(), weight) for name, vector, weight in further if vector.is_valid]
        parts = np.zeros((len(self._events) + len(further), users.vectors.shape[1]))
        parts[: len(self._events)] = users.vectors[users.history_items[self._events]]
        for number, (name, vector, _) in enumerate(further, len(self._events)):
            parts[number, : len(vector)] = vector
            self._kinds.append(name)
        self._weights = np.concatenate([self._weights, [weight for _, _, weight in further]])
        items = users.vectors[self._listed].astype(np.float64)
        labels, events = np.full(len(parts), -1), slice(len(self._events))
        labels[events] = interests_of(parts[events].astype(np.float32), self._weights[events], spec.interests)
        interests = weights_of(labels, self._weights)
        return best_of([vector_contributions(items, parts, weights, spec.widths) for weights in interests])

    def _of_weights(self) -> Contributions:
        codes = _column(self._users.history, "code")[self._events]
        pairs = np.zeros((len(self._listed), len(codes)))
        for row, item in enumerate(self._listed):
            neighbors, values = self._users.item_weights.get(item, (codes[:0], self._weights[:0]))
            if len(neighbors):
                slots = np.searchsorted(neighbors, codes).clip(max=len(neighbors) - 1)
                pairs[row] = np.where(neighbors[slots] == codes, values[slots], 0.0)
        return weight_contributions(self._weights, pairs)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The list's rows, by rank."""
        for number, row in enumerate(self._rows):
            reasons = list(self._reasons(number))
            yield {
                "user_id": self._users.ids[self._number].as_py(),
                **self._users.listed[row].as_py(),
                "reasons": reasons,
            }

    def fidelity(self) -> Float64Array:
        """(5,) this user's terms of the task statistic."""
        losses = deletion_fidelity(self._parts, len(self._events)) if len(self._listed) else None
        if losses is None:
            return np.zeros(5)
        top, other = losses
        return np.array([1, top, other, top - other, (top - other) ** 2])

    def _reasons(self, row: int) -> Iterator[dict[str, Any]]:
        boost = self._users.boosts[self._listed[row]] if self._users.spec.boosted else 0.0
        totals = np.append(self._totals[row], boost)
        order = np.argsort(-totals, kind="stable")  # ties: the smaller item_id first
        order = order[totals[order] != 0]
        top, rest = np.split(order, [self._users.spec.most])
        whole = np.abs(totals).sum()
        for part in top:
            yield self._reason(row, int(part), float(totals[part]), whole)
        if len(rest):
            history, boosted = rest[rest < len(self._kinds)], (rest == len(self._kinds)).any()
            blocks = dict(zip(self._blocks, self._parts.values[row, history].sum(axis=0), strict=True))
            blocks |= {"boost": boost} if boosted else {}
            yield self._struct("others", None, float(totals[rest].sum()), whole, blocks, count=len(rest))

    def _reason(self, row: int, part: int, value: float, whole: float) -> dict[str, Any]:
        if part == len(self._kinds):
            return self._struct("boost", None, value, whole, {"boost": value})
        values, cosines = self._parts.values[row, part], self._parts.cosines[row, part]
        blocks = dict(zip(self._blocks, values, strict=True))
        if self._kinds[part] != "history":
            return self._struct(self._kinds[part], None, value, whole, blocks)
        event = self._users.history[self._events[part]].as_py()
        title = self._users.titles[self._users.history_items[self._events[part]]] or event["item_id"]
        alike = list(zip(self._blocks, values.tolist(), cosines.tolist(), strict=True))
        words = {"title": title, "weight": event["weight"], "event_type": event["event_type"], "alike": alike}
        return self._struct("history", event["item_id"], value, whole, blocks, **words)

    def _struct(
        self, kind: str, item: str | None, value: float, whole: float, blocks: Mapping[str, float], **words: Any
    ) -> dict[str, Any]:
        return {
            "kind": kind,
            "item_id": item,
            "contribution": value,
            "share": value / whole,
            "blocks": [{"block": name, "contribution": float(part)} for name, part in blocks.items() if part],
            "sentence": sentence(self._users.spec.language, kind, value, **words),
        }


def _flattened(column: pa.ChunkedArray) -> tuple[pa.StructArray, ItemRows]:
    """(the structs of all lists, the offset of each list); a null list is an empty one."""
    lists = column.combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    return lists.flatten(), np.concatenate([[0], np.cumsum(lengths)])


def _column(rows: pa.StructArray, name: str) -> NDArray[Any]:
    return rows.field(name).to_numpy(zero_copy_only=False)
