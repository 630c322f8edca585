"""Users with several interests on their way past the item blocks: a list for each, merged by the best score."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys_spark.arrays.arrow import as_lists, matrix, unit_vectors
from recsys_spark.arrays.id_index import IdIndex
from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.profiles.kernels.interests import interests_of, weights_of
from recsys_spark.topk.kernels.running_topk import EMPTY, Entries, ordinals_of
from recsys_spark.topk.lists import POSITIVE_COLUMNS, ListRules, as_rows
from recsys_spark.topk.profile_scorer import ProfileScorer

USERS_AT_ONCE = 256

_Wide = NDArray[np.float64]


class InterestScorer:
    """As ``ProfileScorer``; an item's score is the best of a user's interests.

    An interest is the profile without what the items of the others add to it, so negative events, the user's own text
    and segment belong to all. A user with too few items has one: the profile.
    """

    def __init__(self, part: pa.Table, items: ItemBlocks, k: int, rules: ListRules) -> None:
        usable, _ = unit_vectors(part["embedding"].combine_chunks())
        part = part.take(pa.array(usable))
        self._items, self._k = items, k
        found = list(_interests(part, items, rules.interests)) if len(part) else []
        owners = np.repeat(np.arange(len(found)), [len(rows) for rows in found])
        rows = np.concatenate(found) if found else np.zeros((0, items.dimension))
        vectors = pa.chunked_array([as_lists(rows.astype(np.float32))])
        place = part.schema.get_field_index("embedding")
        expanded = (
            part.take(pa.array(owners)).drop_columns(list(POSITIVE_COLUMNS)).set_column(place, "embedding", vectors)
        )
        there, _ = unit_vectors(vectors.combine_chunks())
        self._owners = owners[there]
        self._users = ProfileScorer(expanded.take(pa.array(there)), items, k, rules)
        self._kept, self._rows = np.unique(self._owners, return_index=True)
        self.ids: pa.ChunkedArray = part["user_id"].take(pa.array(self._kept))

    def update(self, block: pa.RecordBatch) -> None:
        """Let the lists meet the next item block."""
        self._users.update(block)

    @property
    def unfilled_slots(self) -> int:
        """Places that found no item."""
        return int((self._merged() == EMPTY).sum())

    def recall_samples(self) -> list[tuple[int, float]]:
        """None: these lists are exact."""
        return []

    def lists(self) -> Iterator[pa.RecordBatch]:
        """The finished lists as rows, in the order of users and ranks."""
        yield from as_rows(self._items, self.ids, self._merged())

    def _merged(self) -> Entries:
        best = self._users.best
        merged = np.full((len(self._kept), self._k), EMPTY)
        for number, rows in enumerate(np.split(best, self._rows[1:])[: len(merged)]):
            entries = np.sort(rows[rows != EMPTY])  # the best of an item comes first
            _, first = np.unique(ordinals_of(entries), return_index=True)
            kept = entries[np.sort(first)[: self._k]]
            merged[number, : len(kept)] = kept
        return merged


def _interests(part: pa.Table, items: ItemBlocks, most: int) -> Iterator[_Wide]:
    """The profiles of every user; the item blocks pass once for some of them."""
    for first in range(0, len(part), USERS_AT_ONCE):
        users = part.slice(first, USERS_AT_ONCE)
        lists = users["liked"].combine_chunks()
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
        ids, weights = lists.flatten(), users["liked_weights"].combine_chunks().flatten().to_numpy()
        vectors, index = np.zeros((len(ids), items.dimension), np.float32), IdIndex(ids)
        for block in items.blocks() if len(ids) else ():
            entries, columns = index.matches(block["item_id"])
            vectors[entries] = block["embedding"].values.to_numpy().reshape(block.num_rows, -1)[columns]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        for number, profile in enumerate(matrix(users["embedding"])):
            own = slice(starts[number], starts[number + 1])
            labels, wide = interests_of(vectors[own], weights[own], most), vectors[own].astype(np.float64)
            others = weights[own] - weights_of(labels, weights[own])
            yield profile.astype(np.float64) - others @ wide
