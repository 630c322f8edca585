"""Lists and histories → reasons: a score is a sum, so each part of it can be told. Pure DataFrame functions.

A user's list and history meet as two arrays of ids in one slim row; no vector of an item is ever shuffled. A task takes
some users at a time and lets the item blocks pass, keeping the rows that those users ask for: per pass it reads the
items once (4·n·d bytes, and a hash of their ids) and holds at most users · (k + history) vectors. That is one pass per
1,024 users: for a catalogue of a million items of 384 numbers 1.5 GB from the page cache, for users without number.
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
    Wide,
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

COLLABORATIVE = "collaborative"

VECTOR = "vector"
"""The only block where nobody knows what the vectors are made of."""

USERS_AT_ONCE = 1024

_OWN = ("own_text", "segment")


@dataclass(frozen=True)
class ExplainSpec:
    """How reasons are told.

    Args:
        most: reasons of a row; what is left is summed up in one more.
        language: of ``sentences``.
        widths: numbers of each block of an item vector; empty for sums of item weights.
        own_weights: what the user's own text, and segment, count.
        boosted: whether the scores hold each item's boost.
        interests: most interests of a user: a score is that of the best one.
    """

    most: int
    language: str
    widths: Mapping[str, int]
    own_weights: tuple[float, float] = (0.0, 0.0)
    boosted: bool = False
    interests: int = 1


def reason_rows(
    items: ItemBlocks, telling: ExplainSpec, constant_columns: Mapping[str, Any], users_at_once: int = USERS_AT_ONCE
) -> ArrowTransform:
    """Rows of ``explanation_inputs`` to rows of ``recommendations``.

    Reasons are in the order of their contribution; ``contribution`` adds up to the score, ``share`` is a contribution
    over the sum of all absolute ones, and the contributions of blocks add up to that of their reason. What is beyond
    ``telling.most`` is one last reason of kind ``others``, so that a row's reasons add up whatever ``most`` is.

    Args:
        items: with ``title`` and ``boost``, and the vectors or weights that scores are made of.
        telling: how.
        stamp: the values of ``run_date`` and ``model``.
        users_at_once: one pass of the items each; it changes no row.

    Notes ``fidelity``: users, and Σ over them of how much the scores of their list fall without the top reason, without
    another one, of the difference and of its square.
    """

    def make(batches: Iterator[pa.RecordBatch], notes: TaskStats) -> Iterator[pa.RecordBatch]:
        fidelity = np.zeros(5)
        for part in slices(batches, users_at_once):
            rows: list[dict[str, Any]] = []
            users = _Users(items, part, telling)
            for number in range(part.num_rows):
                told = _User(users, number)
                rows += [row | dict(constant_columns) for row in told.rows()]
                fidelity += told.fidelity()
            yield pa.RecordBatch.from_pylist(rows, RECOMMENDATIONS.arrow_schema)
        notes["fidelity"] = fidelity.tolist()

    return make


class _Users:
    """Some users, and what the item blocks hold of the items that they ask for."""

    def __init__(self, items: ItemBlocks, part: pa.Table, telling: ExplainSpec) -> None:
        self.telling, self.ids, self.own = telling, part["user_id"], {name: part[name] for name in _OWN}
        self.listed, self.starts = _flattened(part["listed"])
        self.history, self.history_starts = _flattened(part["history"])
        self.items = pa.concat_arrays([rows.field("item_id") for rows in (self.listed, self.history)]).unique()
        self.listed_places, self.places = (
            pc.index_in(rows.field("item_id"), self.items).to_numpy(zero_copy_only=False).astype(np.int64)
            for rows in (self.listed, self.history)
        )
        count = len(self.items)
        self.there, self.boosts = np.zeros(count, bool), np.zeros(count)
        self.titles: list[str | None] = [None] * count
        self.vectors = np.zeros((count, items.dimension if telling.widths else 0), np.float32)
        self.item_weights: dict[int, tuple[ItemRows, Wide]] = {}
        index = IdIndex(self.items)
        for block in items.blocks() if count else ():
            places, columns = index.matches(block["item_id"])
            self._take(block.take(pa.array(columns)), places)
            del block

    def _take(self, rows: pa.RecordBatch, places: ItemRows) -> None:
        self.there[places] = True
        self.boosts[places] = rows["boost"].fill_null(0).to_numpy(zero_copy_only=False)
        for place, title in zip(places, rows["title"].to_pylist(), strict=True):
            self.titles[place] = title
        if self.telling.widths:
            self.vectors[places] = rows["embedding"].flatten().to_numpy().reshape(rows.num_rows, -1)
            return
        for number, place in enumerate(places):
            codes, weights = (rows[name][number].values.to_numpy() for name in ("neighbors", "weights"))
            self.item_weights[place] = codes, weights.astype(np.float64)


class _User:
    """One user's list, and what its scores are sums of."""

    def __init__(self, users: _Users, number: int) -> None:
        self._users, self._number = users, number
        self._rows = range(users.starts[number], users.starts[number + 1])
        self._listed = users.listed_places[self._rows.start : self._rows.stop]
        events = np.arange(users.history_starts[number], users.history_starts[number + 1])
        if users.telling.widths:  # an item without a vector adds nothing to a profile
            events = events[users.there[users.places[events]]]
        self._events, self._kinds = events, ["history"] * len(events)
        self._weights = _column(users.history, "weight")[events].astype(np.float64)
        self._parts = self._of_vectors() if users.telling.widths else self._of_weights()
        self._totals = self._parts.values.sum(axis=2)
        self._blocks = list(users.telling.widths) or [COLLABORATIVE]

    def _of_vectors(self) -> Contributions:
        users, telling = self._users, self._users.telling
        own = [(name, users.own[name][self._number], w) for name, w in zip(_OWN, telling.own_weights, strict=True) if w]
        own = [(name, vector.values.to_numpy(), w) for name, vector, w in own if vector.is_valid]
        parts = np.zeros((len(self._events) + len(own), users.vectors.shape[1]))
        parts[: len(self._events)] = users.vectors[users.places[self._events]]
        for place, (name, vector, _) in enumerate(own, len(self._events)):
            parts[place, : len(vector)] = vector
            self._kinds.append(name)
        self._weights = np.concatenate([self._weights, [w for _, _, w in own]])
        items = users.vectors[self._listed].astype(np.float64)
        labels, events = np.full(len(parts), -1), slice(len(self._events))
        labels[events] = interests_of(parts[events].astype(np.float32), self._weights[events], telling.interests)
        counted = weights_of(labels, self._weights)
        return best_of([vector_contributions(items, parts, weights, telling.widths) for weights in counted])

    def _of_weights(self) -> Contributions:
        codes = _column(self._users.history, "code")[self._events]
        pairs = np.zeros((len(self._listed), len(codes)))
        for row, place in enumerate(self._listed):
            known, values = self._users.item_weights.get(place, (codes[:0], self._weights[:0]))
            if len(known):
                spot = np.searchsorted(known, codes).clip(max=len(known) - 1)
                pairs[row] = np.where(known[spot] == codes, values[spot], 0.0)
        return weight_contributions(self._weights, pairs)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The list's rows, by rank."""
        for place, row in enumerate(self._rows):
            reasons = list(self._reasons(place))
            yield {
                "user_id": self._users.ids[self._number].as_py(),
                **self._users.listed[row].as_py(),
                "reasons": reasons,
            }

    def fidelity(self) -> Wide:
        """One user's addends of the note."""
        margin = deletion_fidelity(self._parts, len(self._events)) if len(self._listed) else None
        if margin is None:
            return np.zeros(5)
        top, other = margin
        return np.array([1, top, other, top - other, (top - other) ** 2])

    def _reasons(self, row: int) -> Iterator[dict[str, Any]]:
        boost = self._users.boosts[self._listed[row]] if self._users.telling.boosted else 0.0
        totals = np.append(self._totals[row], boost)
        order = np.argsort(-totals, kind="stable")  # of equals the smaller item_id
        order = order[totals[order] != 0]
        told, left = np.split(order, [self._users.telling.most])
        whole = np.abs(totals).sum()
        for place in told:
            yield self._reason(row, int(place), float(totals[place]), whole)
        if len(left):
            history, boosted = left[left < len(self._kinds)], (left == len(self._kinds)).any()
            blocks = dict(zip(self._blocks, self._parts.values[row, history].sum(axis=0), strict=True))
            blocks |= {"boost": boost} if boosted else {}
            yield self._told("others", None, float(totals[left].sum()), whole, blocks, count=len(left))

    def _reason(self, row: int, place: int, value: float, whole: float) -> dict[str, Any]:
        if place == len(self._kinds):
            return self._told("boost", None, value, whole, {"boost": value})
        values, cosines = self._parts.values[row, place], self._parts.cosines[row, place]
        blocks = dict(zip(self._blocks, values, strict=True))
        if self._kinds[place] != "history":
            return self._told(self._kinds[place], None, value, whole, blocks)
        event = self._users.history[self._events[place]].as_py()
        title = self._users.titles[self._users.places[self._events[place]]] or event["item_id"]
        alike = list(zip(self._blocks, values.tolist(), cosines.tolist(), strict=True))
        words = {"title": title, "weight": event["weight"], "event_type": event["event_type"], "alike": alike}
        return self._told("history", event["item_id"], value, whole, blocks, **words)

    def _told(
        self, kind: str, item: str | None, value: float, whole: float, blocks: Mapping[str, float], **words: Any
    ) -> dict[str, Any]:
        return {
            "kind": kind,
            "item_id": item,
            "contribution": value,
            "share": value / whole,
            "blocks": [{"block": name, "contribution": float(part)} for name, part in blocks.items() if part],
            "sentence": sentence(self._users.telling.language, kind, value, **words),
        }


def _flattened(column: pa.ChunkedArray) -> tuple[pa.StructArray, ItemRows]:
    """(the structs of all lists, where each list starts); a null list is an empty one."""
    lists = column.combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    return lists.flatten(), np.concatenate([[0], np.cumsum(lengths)])


def _column(rows: pa.StructArray, name: str) -> NDArray[Any]:
    return rows.field(name).to_numpy(zero_copy_only=False)
