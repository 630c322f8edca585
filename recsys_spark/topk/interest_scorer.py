"""Score a batch of users by several interests each: one list for each interest, merged by the greatest score."""

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
    """Running Top-K lists of a batch of users: the score of an item is its greatest cosine to an interest of the user.

    An interest is the profile less the items of the other interests. Negative events, the text and the segment of the
    user are therefore part of every interest. A user with too few items has one interest: the profile.
    """

    def __init__(self, part: pa.Table, items: ItemBlocks, k: int, rules: ListRules) -> None:
        usable, _ = unit_vectors(part["embedding"].combine_chunks())
        part = part.take(pa.array(usable))
        self._items, self._k = items, k
        interests = list(_interests(part, items, rules.interests)) if len(part) else []
        owners = np.repeat(np.arange(len(interests)), [len(rows) for rows in interests])
        rows = np.concatenate(interests) if interests else np.zeros((0, items.dimension))
        vectors = pa.chunked_array([as_lists(rows.astype(np.float32))])
        column = part.schema.get_field_index("embedding")
        expanded = (
            part.take(pa.array(owners)).drop_columns(list(POSITIVE_COLUMNS)).set_column(column, "embedding", vectors)
        )
        usable, _ = unit_vectors(vectors.combine_chunks())
        self._interests = ProfileScorer(expanded.take(pa.array(usable)), items, k, rules)
        users, self._starts = np.unique(owners[usable], return_index=True)
        self.ids: pa.ChunkedArray = part["user_id"].take(pa.array(users))

    def update(self, block: pa.RecordBatch) -> None:
        """Score the items of a block for every interest."""
        self._interests.update(block)

    @property
    def unfilled_slots(self) -> int:
        """Number of list positions without an item, over all users."""
        return int((self._merged() == EMPTY).sum())

    def recall_samples(self) -> list[tuple[int, float]]:
        """Return no samples: these lists are exact."""
        return []

    def lists(self) -> Iterator[pa.RecordBatch]:
        """Finished lists as rows, in the order of users and ranks."""
        yield from as_rows(self._items, self.ids, self._merged())

    def _merged(self) -> Entries:
        """(B, k) entries of the users from the entries of their interests."""
        merged = np.full((len(self.ids), self._k), EMPTY)
        for number, rows in enumerate(np.split(self._interests.best, self._starts[1:])[: len(merged)]):
            entries = np.sort(rows[rows != EMPTY])  # of the entries of an item, the greatest score comes first
            _, first = np.unique(ordinals_of(entries), return_index=True)
            best = entries[np.sort(first)[: self._k]]
            merged[number, : len(best)] = best
        return merged


def _interests(part: pa.Table, items: ItemBlocks, limit: int) -> Iterator[_Wide]:
    """(at most ``limit``, d) interests of each user. Reads all blocks once for every ``USERS_AT_ONCE`` users."""
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
            part_of_user = slice(starts[number], starts[number + 1])
            user_vectors, user_weights = vectors[part_of_user], weights[part_of_user]
            labels = interests_of(user_vectors, user_weights, limit)
            removed = user_weights - weights_of(labels, user_weights)
            yield profile.astype(np.float64) - removed @ user_vectors.astype(np.float64)
