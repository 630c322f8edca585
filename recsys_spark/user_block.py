"""A block of users on its way past the item blocks: what the rules of their lists mean for the kernel."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark import TaskContext

from recsys_spark.blocks import IdIndex, unit_vectors
from recsys_spark.embed import task_device
from recsys_spark.errors import UsageError
from recsys_spark.item_blocks import ItemBlocks
from recsys_spark.kernels.clusters import nearest_lists
from recsys_spark.kernels.diversity import mmr_order
from recsys_spark.kernels.shortlist import NO_PAIRS, NUMPY, Multiplier, Pairs, Route
from recsys_spark.kernels.topk import EMPTY, Places, RunningTopK, ordinals_of, scores_of

Rows = NDArray[np.int64]
_USERS_AT_ONCE = 1024
DIVERSIFIED_AT_ONCE = 256  # users: the vectors of all their candidates are held
_NEAREST = 4  # lists


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
    """

    min_score: float | None = None
    quota: int | None = None
    boosts: bool = False
    run_date: date | None = None
    keyed: bool = False
    nprobe: int = 0
    diversity: float = 0.0
    diversify_from: int = 100


def candidates(k: int, rules: ListRules) -> int:
    """How many items a list is chosen from."""
    return max(k, rules.diversify_from) if rules.diversity else k


class UserBlock:
    """Some users on their way past the item blocks."""

    def __init__(self, part: pa.Table, items: ItemBlocks, k: int, rules: ListRules) -> None:
        usable, vectors = unit_vectors(part["embedding"].combine_chunks())
        if len(vectors) and items.rows and vectors.shape[1] != items.dimension:
            raise UsageError(
                f"profiles have {vectors.shape[1]} numbers, items {items.dimension}: they come from different models; "
                "run build_item_vectors and build_profiles again"
            )
        part = part.take(pa.array(usable))
        self.ids: pa.ChunkedArray = part["user_id"]
        self._items, self._rules = items, rules
        self._seen, self._allowed = _Pairs(part["seen"]), _Pairs(part["allowed"])
        self._restricted = part["allowed"].is_valid().to_numpy()
        self._keys = _rows_by_key(part["match_key"]) if rules.keyed else None
        self._probes = [None] if not rules.nprobe else _probes(vectors, items, rules.nprobe)
        queries = np.column_stack([vectors, np.ones(len(vectors), np.float32)]) if rules.boosts else vectors
        self._k = k
        self._running = RunningTopK(
            queries, candidates(k, rules), least=rules.min_score, quota=rules.quota, multiplier=_multiplier()
        )
        self._strata = part["stratum"].filter(part["stratum"].is_valid()).to_pylist()
        self._sampled = np.flatnonzero(part["stratum"].is_valid().to_numpy())
        exact = part.take(pa.array(self._sampled))
        self._judge = UserBlock(exact, items, k, replace(rules, nprobe=0)) if rules.nprobe and len(exact) else None

    def meet(self, block: pa.RecordBatch) -> None:
        """Let the lists meet the next item block."""
        if self._judge is not None:
            self._judge.meet(block)
        block = _available(block, self._rules.run_date)
        if not len(self.ids) or not block.num_rows:
            return
        vectors = block["embedding"].values.to_numpy().reshape(block.num_rows, -1)
        if self._rules.boosts:
            boosts = block["boost"].fill_null(0).to_numpy(zero_copy_only=False)
            vectors = np.column_stack([vectors, boosts])
        excluded, given = self._seen.within(block), self._allowed.within(block)
        self._running.update(
            vectors,
            block["ordinal"].to_numpy(),
            routes=self._routes(block),
            excluded=excluded,
            given=_without(given, excluded, block.num_rows),
            groups=block["quota_group"].fill_null(-1).to_numpy(zero_copy_only=False) if self._rules.quota else None,
        )

    @property
    def places_short(self) -> int:
        """Places that found no item."""
        return int((self.best == EMPTY).sum())

    def shares(self) -> list[tuple[int, float]]:
        """(stratum, share of the exact list that was found) of sampled users with an exact list."""
        if self._judge is None:
            return []
        found = []
        for stratum, row, places in zip(self._strata, self._sampled, self._judge.best, strict=True):
            if len(exact := places[places != EMPTY]):
                found.append((stratum, float(np.isin(exact, self.best[row]).mean())))
        return found

    @property
    def best(self) -> Places:
        """(B, k) places by score."""
        return self._running.places[:, : self._k]

    def lists(self) -> Iterator[pa.RecordBatch]:
        """The finished lists as rows, in the order of users and ranks."""
        taken = self._running.places
        if self._rules.diversity:
            taken = _diversified(self._items, taken, self._k, self._rules.diversity)
        ids = _ids_of(self._items, ordinals_of(taken[taken != EMPTY]))
        done = 0
        for first in range(0, len(taken), _USERS_AT_ONCE):
            part = taken[first : first + _USERS_AT_ONCE]
            rows, ranks = np.nonzero(part != EMPTY)
            columns = [
                self.ids.take(pa.array(first + rows)).combine_chunks(),
                ids.slice(done, len(rows)),
                pa.array(scores_of(part[rows, ranks]), pa.float32()),
                pa.array(ranks + 1, pa.int32()),
            ]
            done += len(rows)
            yield pa.RecordBatch.from_arrays(columns, names=["user_id", "item_id", "score", "rank"])

    def _routes(self, block: pa.RecordBatch) -> list[Route] | None:
        """Which users meet which run of the block; None where all meet all."""
        if self._keys is None and self._probes == [None] and not self._restricted.any():
            return None
        free, runs = np.flatnonzero(~self._restricted), list(_runs(block))
        return [
            Route(self._who(free, probes, key, number), start, stop)
            for probes in self._probes
            for key, number, start, stop in runs
        ]

    def _who(self, rows: Rows, probes: list[Rows] | None, key: str | None, number: int) -> Rows:
        if self._keys is not None:
            rows = np.intersect1d(rows, self._keys.get(key, rows[:0]), assume_unique=True)
        return rows if probes is None else np.intersect1d(rows, probes[number], assume_unique=True)


def _multiplier() -> Multiplier:
    """The task's GPU where Spark gave it one."""
    device = task_device(TaskContext.get())
    if device == "cpu":
        return NUMPY
    from recsys_spark.kernels.torch_product import torch_multiplier  # torch stays out of tasks without a GPU

    return torch_multiplier(device)


class _Pairs:
    """The (user, item_id) pairs of a column of lists of ids."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        lists = column.combine_chunks()
        self._rows = pc.list_parent_indices(lists).to_numpy().astype(np.int64)
        self._ids = IdIndex(lists.flatten()) if len(self._rows) else None

    def within(self, block: pa.RecordBatch) -> Pairs:
        """(rows, columns) of the pairs whose item is in the block, by row."""
        if self._ids is None:
            return NO_PAIRS
        places, columns = self._ids.matches(block["item_id"])
        return self._rows[places], columns


def _available(block: pa.RecordBatch, day: date | None) -> pa.RecordBatch:
    if day is None or block["available_from"].null_count + block["available_until"].null_count == 2 * block.num_rows:
        return block
    begun = pc.fill_null(pc.less_equal(block["available_from"], pa.scalar(day)), True)
    return block.filter(pc.and_(begun, pc.fill_null(pc.greater_equal(block["available_until"], pa.scalar(day)), True)))


def _without(pairs: Pairs, others: Pairs, width: int) -> Pairs:
    kept = np.isin(pairs[0] * width + pairs[1], others[0] * width + others[1], invert=True)
    return pairs[0][kept], pairs[1][kept]


def _rows_by_key(keys: pa.ChunkedArray) -> dict[str | None, Rows]:
    """A missing key equals nothing, as in a join."""
    coded = keys.combine_chunks().dictionary_encode()
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return {key: np.flatnonzero(codes == code) for code, key in enumerate(coded.dictionary.to_pylist())}


def _probes(vectors: NDArray[np.float32], items: ItemBlocks, nprobe: int) -> list[list[Rows] | None]:
    """Which rows meet each list: first the nearest lists of every row, which raise its floor, then its others."""
    probed = nearest_lists(vectors, items.centroids(), nprobe)
    return [_rows_by_list(part, items.lists) for part in (probed[:, :_NEAREST], probed[:, _NEAREST:])]


def _rows_by_list(probed: NDArray[np.int64], lists: int) -> list[Rows]:
    """The rows that meet each list, from the lists that each row meets."""
    order = np.argsort(probed.ravel(), kind="stable")
    borders = np.searchsorted(probed.ravel()[order], np.arange(1, lists))
    return np.split(order // max(probed.shape[1], 1), borders)


def _runs(block: pa.RecordBatch) -> Iterator[tuple[str | None, int, int, int]]:
    """(match_key, list, start, stop) of each run of a block."""
    lists, keys = block["list"].to_numpy(), block["match_key"].dictionary_encode()
    codes = keys.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    starts = np.flatnonzero(np.r_[True, (np.diff(lists) != 0) | (np.diff(codes) != 0)])
    names = [*keys.dictionary.to_pylist(), None]  # −1 is the last one
    for start, stop in zip(starts, [*starts[1:], block.num_rows], strict=True):
        yield names[codes[start]], int(lists[start]), int(start), int(stop)


def _found(blocks: Iterator[pa.RecordBatch], ordinals: Rows) -> Iterator[tuple[Rows, pa.RecordBatch, Rows]]:
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
    places, ids = [np.empty(0, np.int64)], [pa.array([], pa.string())]
    for where, block, rows in _found(items.ids(), ordinals):
        places.append(where)
        ids.append(block["item_id"].take(pa.array(rows)))
    back = np.empty(len(ordinals), np.int64)
    back[np.concatenate(places)] = np.arange(len(ordinals))
    return pa.concat_arrays(ids).take(pa.array(back))


def _diversified(items: ItemBlocks, taken: Places, k: int, diversity: float) -> Places:
    """(B, c) places to (B, k) in the order of maximal marginal relevance; the blocks pass once for some users."""
    chosen = np.full((len(taken), k), EMPTY)
    for first in range(0, len(taken), DIVERSIFIED_AT_ONCE):
        part = taken[first : first + DIVERSIFIED_AT_ONCE]
        vectors = np.zeros((part.size, items.dimension), np.float32)
        there = np.flatnonzero(part != EMPTY)
        for where, block, rows in _found(items.blocks(), ordinals_of(part.ravel()[there])):
            vectors[there[where]] = block["embedding"].values.to_numpy().reshape(block.num_rows, -1)[rows]
        for row, (places, own) in enumerate(zip(part, vectors.reshape(*part.shape, -1), strict=True)):
            listed = int((places != EMPTY).sum())
            order = mmr_order(scores_of(places[:listed]), own[:listed], diversity, k)
            chosen[first + row, : len(order)] = places[order]
    return chosen
