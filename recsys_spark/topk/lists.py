"""What lists have in common, whatever scores them: rules that act inside a block, and finished lists as rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys_spark.arrays.id_index import IdIndex
from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.topk.kernels.running_topk import EMPTY, Entries, ordinals_of, scores_of
from recsys_spark.topk.kernels.shortlist import NO_PAIRS, Pairs

POSITIVE_COLUMNS = ("liked", "liked_weights")
"""What a user has beside the columns of rules: items of positive weight in the order of item_id, what each counts."""

HISTORY_COLUMNS = {"history": "array<bigint>", "history_weights": "array<double>"}
"""What a user has beside the columns of rules: codes of items, ascending, and what each counts."""

Rows = NDArray[np.int64]

_USERS_AT_ONCE = 1024


@dataclass(frozen=True)
class ListRules:
    """What holds for every list.

    Args:
        min_score: lower scores are not listed.
        quota: most items of one ``quota_group`` in a list; items without a group have no quota.
        boosts: add each item's ``boost`` to its scores.
        run_date: items that are not available on this day are not listed.
        keyed: a user meets items of the same ``match_key`` only; without a key, none.
        nprobe: how many lists of items, by their centroid, a user meets; 0 for all, which is exact.
        diversity: 0 for lists by score; above, k of the best ``diversify_from`` by maximal marginal relevance. Ranks
            then follow that order.
        interests: most interests of a user; an item's score is the best of them.
    """

    min_score: float | None = None
    quota: int | None = None
    boosts: bool = False
    run_date: date | None = None
    keyed: bool = False
    nprobe: int = 0
    diversity: float = 0.0
    diversify_from: int = 100
    interests: int = 1


class UserItems:
    """The (user, item_id) pairs of a column of lists of ids."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        lists = column.combine_chunks()
        self._rows = pc.list_parent_indices(lists).to_numpy().astype(np.int64)
        self._ids = IdIndex(lists.flatten()) if len(self._rows) else None

    def within(self, block: pa.RecordBatch) -> Pairs:
        """(rows, columns) of the pairs whose item is in the block, by row."""
        if self._ids is None:
            return NO_PAIRS
        entries, columns = self._ids.matches(block["item_id"])
        return self._rows[entries], columns


def available(block: pa.RecordBatch, day: date | None) -> pa.RecordBatch:
    """The items of a block that may be listed on this day."""
    if day is None or block["available_from"].null_count + block["available_until"].null_count == 2 * block.num_rows:
        return block
    begun = pc.fill_null(pc.less_equal(block["available_from"], pa.scalar(day)), True)
    return block.filter(pc.and_(begun, pc.fill_null(pc.greater_equal(block["available_until"], pa.scalar(day)), True)))


def without(pairs: Pairs, others: Pairs, width: int) -> Pairs:
    """Pairs that are not among others, in a block of ``width`` items."""
    kept = np.isin(pairs[0] * width + pairs[1], others[0] * width + others[1], invert=True)
    return pairs[0][kept], pairs[1][kept]


def rows_by_key(keys: pa.ChunkedArray) -> dict[str | None, Rows]:
    """A missing key equals nothing, as in a join."""
    coded = keys.combine_chunks().dictionary_encode()
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return {key: np.flatnonzero(codes == code) for code, key in enumerate(coded.dictionary.to_pylist())}


def user_codes(keys: dict[str | None, Rows], users: int) -> Rows:
    """The number of each user's key; −1 without one."""
    codes = np.full(users, -1)
    for number, rows in enumerate(keys.values()):
        codes[rows] = number
    return codes


def item_codes(keys: dict[str | None, Rows], block: pa.RecordBatch) -> Rows:
    """Numbers of the users' keys in a block of items; −2, which equals no user's, for any other."""
    names = pa.array(list(keys), pa.string())
    return pc.index_in(block["match_key"], names, skip_nulls=True).fill_null(-2).to_numpy().astype(np.int64)


def where_found(blocks: Iterator[pa.RecordBatch], ordinals: Rows) -> Iterator[tuple[Rows, pa.RecordBatch, Rows]]:
    """Where ordinals lie: (places in ``ordinals``, a block, the rows in it), one block after the other."""
    order = np.argsort(ordinals)
    ordered = ordinals[order]
    for block in blocks:
        numbers = block["ordinal"].to_numpy()
        first, last = np.searchsorted(ordered, numbers), np.searchsorted(ordered, numbers, "right")
        asked = np.repeat(np.arange(len(numbers)), last - first)
        within = np.arange(len(asked)) - np.repeat(np.cumsum(last - first) - (last - first), last - first)
        yield order[first[asked] + within], block, asked


def _ids_of(items: ItemBlocks, ordinals: Rows) -> pa.Array:
    """The item_id of each ordinal, by one more pass over the ids alone."""
    entries, ids = [np.empty(0, np.int64)], [pa.array([], pa.string())]
    for where, block, rows in where_found(items.ids(), ordinals):
        entries.append(where)
        ids.append(block["item_id"].take(pa.array(rows)))
    back = np.empty(len(ordinals), np.int64)
    back[np.concatenate(entries)] = np.arange(len(ordinals))
    return pa.concat_arrays(ids).take(pa.array(back))


def as_rows(items: ItemBlocks, users: pa.ChunkedArray, taken: Entries) -> Iterator[pa.RecordBatch]:
    """(B, k) places of B users as ``user_id, item_id, score, rank``, in the order of users and ranks."""
    ids = _ids_of(items, ordinals_of(taken[taken != EMPTY]))
    done = 0
    for first in range(0, len(taken), _USERS_AT_ONCE):
        part = taken[first : first + _USERS_AT_ONCE]
        rows, ranks = np.nonzero(part != EMPTY)
        columns = [
            users.take(pa.array(first + rows)).combine_chunks(),
            ids.slice(done, len(rows)),
            pa.array(scores_of(part[rows, ranks]), pa.float32()),
            pa.array(ranks + 1, pa.int32()),
        ]
        done += len(rows)
        yield pa.RecordBatch.from_arrays(columns, names=["user_id", "item_id", "score", "rank"])
