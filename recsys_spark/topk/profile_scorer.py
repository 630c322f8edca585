"""A block of users on its way past the item blocks: what the rules of their lists mean for the kernel."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark import TaskContext

from recsys_spark.arrays.arrow import unit_vectors
from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.blocks.kernels.spherical_kmeans import nearest_clusters
from recsys_spark.errors import UsageError
from recsys_spark.runtime.task import task_device
from recsys_spark.topk.kernels.cpu_product import cpu_product
from recsys_spark.topk.kernels.mmr import mmr_order
from recsys_spark.topk.kernels.running_topk import EMPTY, Entries, RunningTopK, ordinals_of, scores_of
from recsys_spark.topk.kernels.shortlist import Route, TileProduct
from recsys_spark.topk.lists import (
    ListRules,
    Pairs,
    Rows,
    UserItems,
    as_rows,
    available,
    item_codes,
    rows_by_key,
    user_codes,
    where_found,
    without,
)

DIVERSIFIED_AT_ONCE = 256  # users: the vectors of all their candidates are held

_NEAREST = (1, 4)  # lists: after the first, and after the first four, only what is better than they were counts


def candidates(k: int, rules: ListRules) -> int:
    """How many items a list is chosen from."""
    return max(k, rules.diversify_from) if rules.diversity else k


class ProfileScorer:
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
        self._seen, self._allowed = UserItems(part["seen"]), UserItems(part["allowed"])
        self._restricted = part["allowed"].is_valid().to_numpy()
        self._keys = rows_by_key(part["match_key"]) if rules.keyed else None
        self._key_codes = user_codes(self._keys or {}, len(part))
        self._probes = [None] if not rules.nprobe else _probes(vectors, items, rules.nprobe)
        queries = np.column_stack([vectors, np.ones(len(vectors), np.float32)]) if rules.boosts else vectors
        multiplier = _multiplier(2.0 * len(queries) * items.rows * items.dimension)
        self._k = k
        self._running = RunningTopK(
            queries,
            candidates(k, rules),
            least=rules.min_score,
            quota=rules.quota,
            multiplier=multiplier.probabilistic() if rules.nprobe else multiplier,
        )
        floors = part["floor"].to_numpy()
        self._running.start_at(np.flatnonzero(np.isfinite(floors)), floors[np.isfinite(floors)])
        self._strata = part["stratum"].filter(part["stratum"].is_valid()).to_pylist()
        self._sampled = np.flatnonzero(part["stratum"].is_valid().to_numpy())
        exact = part.take(pa.array(self._sampled))
        self._judge = ProfileScorer(exact, items, k, replace(rules, nprobe=0)) if rules.nprobe and len(exact) else None

    def update(self, block: pa.RecordBatch) -> None:
        """Let the lists meet the next item block."""
        if self._judge is not None:
            self._judge.update(block)
        block = available(block, self._rules.run_date)
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
            given=self._matching(without(given, excluded, block.num_rows), block),
            groups=block["quota_group"].fill_null(-1).to_numpy(zero_copy_only=False) if self._rules.quota else None,
        )

    def _matching(self, pairs: Pairs, block: pa.RecordBatch) -> Pairs:
        """Those of the allowed pairs whose keys are equal: to allow an item lifts no other rule."""
        if self._keys is None or not len(pairs[0]):
            return pairs
        kept = self._key_codes[pairs[0]] == item_codes(self._keys, block)[pairs[1]]
        return pairs[0][kept], pairs[1][kept]

    @property
    def unfilled_slots(self) -> int:
        """Places that found no item."""
        return int((self.best == EMPTY).sum())

    def recall_samples(self) -> list[tuple[int, float]]:
        """(stratum, share of the exact list that was found) of sampled users with an exact list."""
        if self._judge is None:
            return []
        found = []
        for stratum, entries, own in zip(self._strata, self._judge.best, self.best[self._sampled], strict=True):
            if len(exact := entries[entries != EMPTY]):
                found.append((stratum, float(np.isin(exact, own).mean())))
        return found

    @property
    def best(self) -> Entries:
        """(B, k) places by score."""
        return self._running.taken[:, : self._k]

    def lists(self) -> Iterator[pa.RecordBatch]:
        """The finished lists as rows, in the order of users and ranks."""
        taken = self._running.taken
        if self._rules.diversity:
            taken = _diversified(self._items, taken, self._k, self._rules.diversity)
        yield from as_rows(self._items, self.ids, taken)

    def _routes(self, block: pa.RecordBatch) -> list[Route] | None:
        """Which users meet which run of the block; None where all meet all."""
        if self._keys is None and self._probes == [None] and not self._restricted.any():
            return None
        everyone, runs = np.arange(len(self._restricted)), list(_runs(block))
        return [
            Route(self._who(everyone if probes is None else probes[number], key), start, stop)
            for probes in self._probes
            for key, number, start, stop in runs
        ]

    def _who(self, rows: Rows, key: str | None) -> Rows:
        """Of ``rows``, those that may meet items with this key."""
        if self._keys is not None:
            rows = np.intersect1d(rows, self._keys.get(key, rows[:0]), assume_unique=True)
        return rows[~self._restricted[rows]]


def _multiplier(flops: float) -> TileProduct:
    """The task's GPU where Spark gave it one."""
    context = TaskContext.get()
    device = task_device(context)
    if device == "cpu":
        return cpu_product(flops, context.cpus() if context else 1)
    from recsys_spark.topk.kernels.torch_product import torch_product

    return torch_product(device)


def _probes(vectors: NDArray[np.float32], items: ItemBlocks, nprobe: int) -> list[list[Rows] | None]:
    """Which rows meet each list: first the nearest lists of every row, which raise its floor, then its others."""
    probed = nearest_clusters(vectors, items.centroids(), nprobe)
    return [_rows_by_list(part, items.clusters) for part in np.split(probed, _NEAREST, axis=1)]


def _rows_by_list(probed: NDArray[np.int64], lists: int) -> list[Rows]:
    """The rows that meet each list, from the lists that each row meets."""
    order = np.argsort(probed.ravel(), kind="stable")
    borders = np.searchsorted(probed.ravel()[order], np.arange(1, lists))
    return np.split(order // max(probed.shape[1], 1), borders)


def _runs(block: pa.RecordBatch) -> Iterator[tuple[str | None, int, int, int]]:
    """(match_key, list, start, stop) of each run of a block."""
    lists, keys = block["cluster"].to_numpy(), block["match_key"].dictionary_encode()
    codes = keys.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    starts = np.flatnonzero(np.r_[True, (np.diff(lists) != 0) | (np.diff(codes) != 0)])
    names = [*keys.dictionary.to_pylist(), None]  # −1 is the last one
    for start, stop in zip(starts, [*starts[1:], block.num_rows], strict=True):
        yield names[codes[start]], int(lists[start]), int(start), int(stop)


def _diversified(items: ItemBlocks, taken: Entries, k: int, diversity: float) -> Entries:
    """(B, c) places to (B, k) in the order of maximal marginal relevance; the blocks pass once for some users."""
    chosen = np.full((len(taken), k), EMPTY)
    for first in range(0, len(taken), DIVERSIFIED_AT_ONCE):
        part = taken[first : first + DIVERSIFIED_AT_ONCE]
        vectors = np.zeros((part.size, items.dimension), np.float32)
        there = np.flatnonzero(part != EMPTY)
        for where, block, rows in where_found(items.blocks(), ordinals_of(part.ravel()[there])):
            vectors[there[where]] = block["embedding"].values.to_numpy().reshape(block.num_rows, -1)[rows]
        for row, (entries, own) in enumerate(zip(part, vectors.reshape(*part.shape, -1), strict=True)):
            listed = int((entries != EMPTY).sum())
            order = mmr_order(scores_of(entries[:listed]), own[:listed], diversity, k)
            chosen[first + row, : len(order)] = entries[order]
    return chosen
