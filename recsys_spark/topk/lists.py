"""Parts that all scorers share: list rules within a block, and finished lists as rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys_spark.arrays.id_index import IdIndex
from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.topk.kernels.routes import NO_PAIRS, Pairs
from recsys_spark.topk.kernels.rule_masks import RuleTable
from recsys_spark.topk.kernels.running_topk import EMPTY, Entries, ordinals_of, scores_of

POSITIVE_COLUMNS = ("liked", "liked_weights")
"""User columns of the interest scorer: items of positive weight in the order of item_id, and their weights."""

HISTORY_COLUMNS = {"history": "array<bigint>", "history_weights": "array<double>"}
"""User columns of the history scorer: codes of items, ascending, and their weights."""

RANKING_COLUMNS = {"own_items": "array<bigint>", "own_values": "array<float>"}
"""User columns of the ranked scorer besides the history: codes of the user's items, ascending, and their statistics."""

EXAMPLE_COLUMNS = {"user_code": "bigint", "wanted": "array<bigint>"}
"""User columns of the examples that a ranker learns from."""

Rows = NDArray[np.int64]

_USERS_AT_ONCE = 1024


@dataclass(frozen=True)
class ListRules:
    """Rules of every list.

    Args:
        min_score: items with a lower score are not listed.
        quota: maximum number of items of one ``quota_group`` in a list; items without a group have no quota.
        boosts: add the ``boost`` of an item to its scores.
        run_date: items that are not available on this day are not listed.
        keyed: list only items with the ``match_key`` of the user; a missing key matches nothing.
        nprobe: number of item clusters that a user probes, nearest first; 0 scores all items, which is exact.
        diversity: 0 ranks by score; above 0, the list is k of the ``diversify_from`` best items, chosen and ranked by
            maximal marginal relevance.
        diversify_from: number of candidates by score that diversity chooses from.
        interests: maximum number of interests of a user; the score of an item is the greatest over the interests.
        table: the rules of a rule base.
        freshness: (score of an item on the day from which it is available, its half-life in days); it needs run_date.
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
    table: RuleTable | None = None
    freshness: tuple[float, float] | None = None


class UserItems:
    """The (user, item) pairs of a column with one list of item ids for each user."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        lists = column.combine_chunks()
        self._rows = pc.list_parent_indices(lists).to_numpy().astype(np.int64)
        self._ids = IdIndex(lists.flatten()) if len(self._rows) else None

    def within(self, block: pa.RecordBatch) -> Pairs:
        """(rows of users, columns of the block) of the pairs whose item is in the block, rows ascending."""
        if self._ids is None:
            return NO_PAIRS
        entries, columns = self._ids.matches(block["item_id"])
        return self._rows[entries], columns


def available_items(block: pa.RecordBatch, day: date | None) -> pa.RecordBatch:
    """Items of a block that are available on this day; all for None."""
    if day is None or block["available_from"].null_count + block["available_until"].null_count == 2 * block.num_rows:
        return block
    started = pc.fill_null(pc.less_equal(block["available_from"], pa.scalar(day)), True)
    not_ended = pc.fill_null(pc.greater_equal(block["available_until"], pa.scalar(day)), True)
    return block.filter(pc.and_(started, not_ended))


def item_boosts(boost: pa.Array, available_from: pa.Array, rules: ListRules) -> NDArray[np.float32] | None:
    """(n,) what is added to the scores of items for every user; None if nothing is."""
    if not rules.boosts and rules.freshness is None:
        return None
    boosts = boost.fill_null(0).to_numpy(zero_copy_only=False)
    if rules.freshness is None or rules.run_date is None:
        return boosts
    first, half_life = rules.freshness
    ages = (np.datetime64(rules.run_date, "D") - available_from.to_numpy(zero_copy_only=False)).astype(np.float64)
    fresh = np.where(available_from.is_valid().to_numpy(zero_copy_only=False), first * 0.5 ** (ages / half_life), 0.0)
    return (boosts + fresh).astype(np.float32)


def pairs_except(pairs: Pairs, removed: Pairs, width: int) -> Pairs:
    """Pairs that are not in ``removed``, in a block of ``width`` items."""
    rest = np.isin(pairs[0] * width + pairs[1], removed[0] * width + removed[1], invert=True)
    return pairs[0][rest], pairs[1][rest]


def rows_by_key(keys: pa.ChunkedArray) -> dict[str | None, Rows]:
    """Rows of each key. A missing key has none: it matches nothing, as in a join."""
    coded = keys.combine_chunks().dictionary_encode()
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return {key: np.flatnonzero(codes == code) for code, key in enumerate(coded.dictionary.to_pylist())}


def user_codes(keys: dict[str | None, Rows], users: int) -> Rows:
    """(users,) the index in ``keys`` of each user's key; −1 without a key."""
    codes = np.full(users, -1)
    for number, rows in enumerate(keys.values()):
        codes[rows] = number
    return codes


def item_codes(keys: dict[str | None, Rows], block: pa.RecordBatch) -> Rows:
    """(n,) the index in ``keys`` of each item's key; −2, which no user has, for other keys."""
    names = pa.array(list(keys), pa.string())
    return pc.index_in(block["match_key"], names, skip_nulls=True).fill_null(-2).to_numpy().astype(np.int64)


def locate_items(blocks: Iterator[pa.RecordBatch], ordinals: Rows) -> Iterator[tuple[Rows, pa.RecordBatch, Rows]]:
    """Find the items of ``ordinals``: for each block (positions in ``ordinals``, the block, their rows in it)."""
    order = np.argsort(ordinals)
    ordered = ordinals[order]
    for block in blocks:
        numbers = block["ordinal"].to_numpy()
        first, last = np.searchsorted(ordered, numbers), np.searchsorted(ordered, numbers, "right")
        counts = last - first
        rows = np.repeat(np.arange(len(numbers)), counts)
        repeats = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        yield order[first[rows] + repeats], block, rows


def _ids_of(items: ItemBlocks, ordinals: Rows) -> pa.Array:
    """item_id of each ordinal, by a second pass over the blocks that reads no vectors."""
    positions, ids = [np.empty(0, np.int64)], [pa.array([], pa.string())]
    for part, block, rows in locate_items(items.ids(), ordinals):
        positions.append(part)
        ids.append(block["item_id"].take(pa.array(rows)))
    order = np.empty(len(ordinals), np.int64)
    order[np.concatenate(positions)] = np.arange(len(ordinals))
    return pa.concat_arrays(ids).take(pa.array(order))


def as_rows(items: ItemBlocks, users: pa.ChunkedArray, entries: Entries) -> Iterator[pa.RecordBatch]:
    """(B, k) entries of B users as ``user_id, item_id, score, rank``, in the order of users and ranks."""
    ids = _ids_of(items, ordinals_of(entries[entries != EMPTY]))
    done = 0
    for first in range(0, len(entries), _USERS_AT_ONCE):
        part = entries[first : first + _USERS_AT_ONCE]
        rows, ranks = np.nonzero(part != EMPTY)
        columns = [
            users.take(pa.array(first + rows)).combine_chunks(),
            ids.slice(done, len(rows)),
            pa.array(scores_of(part[rows, ranks]), pa.float32()),
            pa.array(ranks + 1, pa.int32()),
        ]
        done += len(rows)
        yield pa.RecordBatch.from_arrays(columns, names=["user_id", "item_id", "score", "rank"])
