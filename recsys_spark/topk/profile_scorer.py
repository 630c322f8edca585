"""Score a batch of users by their profiles: list rules become routes, excluded and allowed pairs of the kernel."""

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
from recsys_spark.topk.batch_rules import BatchRules, BlockRules
from recsys_spark.topk.kernels.compilation import loops_for
from recsys_spark.topk.kernels.cpu_product import cpu_product
from recsys_spark.topk.kernels.exact_scores import exact_scores
from recsys_spark.topk.kernels.mmr import mmr_order
from recsys_spark.topk.kernels.routes import Barred, Route
from recsys_spark.topk.kernels.running_topk import EMPTY, Entries, RunningTopK, ordinals_of, scores_of
from recsys_spark.topk.kernels.shortlist import Scores, TileProduct
from recsys_spark.topk.lists import (
    ListRules,
    Pairs,
    Rows,
    UserItems,
    as_rows,
    available_items,
    item_boosts,
    item_codes,
    locate_items,
    pairs_except,
    rows_by_key,
    user_codes,
)
from recsys_spark.topk.pins import Pins

DIVERSIFIED_AT_ONCE = 256
"""Number of users of which a task holds the vectors of all candidates."""

_ROUNDS = (1, 4)
"""Probe clusters in rounds: the nearest, the next three, the rest. Each round raises the score floor of the next."""


def candidates(k: int, rules: ListRules) -> int:
    """Number of candidates by score that a list of k items is chosen from."""
    return max(k, rules.diversify_from) if rules.diversity else k


class ProfileScorer:
    """Running Top-K lists of a batch of users by cosine: a ``UserScorer``."""

    def __init__(self, part: pa.Table, items: ItemBlocks, k: int, rules: ListRules) -> None:
        usable, vectors = unit_vectors(part["embedding"].combine_chunks())
        if len(vectors) and items.rows and vectors.shape[1] != items.dimension:
            raise UsageError(
                f"profiles have {vectors.shape[1]} dimensions, items {items.dimension}: they are of different models; "
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
        self._batch = None if rules.table is None else BatchRules(part, rules.table)
        self._pins = Pins(part, self._batch, rules) if self._batch and self._batch.table.pins else None
        queries = np.column_stack([vectors, np.ones(len(vectors), np.float32)]) if _boosted(rules) else vectors
        queries = queries if self._batch is None else np.column_stack([queries, self._batch.booster_columns])
        self._queries = queries
        tile_product = _tile_product(2.0 * len(queries) * items.rows * items.dimension)
        self._k = k
        self._running = RunningTopK(
            queries,
            candidates(k, rules),
            min_score=rules.min_score,
            quota=rules.quota,
            tile_product=tile_product.probabilistic() if rules.nprobe else tile_product,
        )
        floors = part["floor"].to_numpy()
        self._running.start_at(np.flatnonzero(np.isfinite(floors)), floors[np.isfinite(floors)])
        self._strata = part["stratum"].filter(part["stratum"].is_valid()).to_pylist()
        self._sampled = np.flatnonzero(part["stratum"].is_valid().to_numpy())
        sample = part.take(pa.array(self._sampled))
        measured = rules.nprobe and len(sample)
        self._exact = ProfileScorer(sample, items, k, replace(rules, nprobe=0)) if measured else None

    def update(self, block: pa.RecordBatch) -> None:
        """Score the items of a block and keep the best k of every user."""
        if self._exact is not None:
            self._exact.update(block)
        block = available_items(block, self._rules.run_date)
        if not len(self.ids) or not block.num_rows:
            return
        vectors = block["embedding"].values.to_numpy().reshape(block.num_rows, -1)
        boosts = item_boosts(block["boost"], block["available_from"], self._rules) if _boosted(self._rules) else None
        if boosts is not None:
            vectors = np.column_stack([vectors, boosts])
        rules = None if self._batch is None else self._batch.within(block)
        if rules is not None:
            vectors = np.column_stack([vectors, rules.boosts])
            self._put_pins(block, vectors, rules)
        excluded, allowed = self._seen.within(block), self._allowed.within(block)
        allowed = self._matching(pairs_except(allowed, excluded, block.num_rows), block)
        self._running.update(
            vectors,
            block["ordinal"].to_numpy(),
            routes=self._routes(block),
            excluded=excluded,
            allowed=allowed if rules is None else _without(allowed, rules.barred),
            groups=block["quota_group"].fill_null(-1).to_numpy(zero_copy_only=False) if self._rules.quota else None,
            barred=None if rules is None else rules.barred,
        )

    def _put_pins(self, block: pa.RecordBatch, vectors: Scores, rules: BlockRules) -> None:
        if self._pins is None:
            return
        for number, rows, columns in self._pins.within(block, rules):
            scores = exact_scores(self._queries, rows, vectors, columns)
            self._pins.put(number, rows, scores, block["ordinal"].to_numpy()[columns])

    def _with_pins(self, entries: Entries) -> Entries:
        return entries if self._pins is None else self._pins.applied(entries)

    def _matching(self, pairs: Pairs, block: pa.RecordBatch) -> Pairs:
        """Allowed pairs with equal keys: a rule 'allow' lifts no other rule."""
        if self._keys is None or not len(pairs[0]):
            return pairs
        equal = self._key_codes[pairs[0]] == item_codes(self._keys, block)[pairs[1]]
        return pairs[0][equal], pairs[1][equal]

    @property
    def unfilled_slots(self) -> int:
        """Number of list positions without an item, over all users."""
        return int((self._with_pins(self.best) == EMPTY).sum())

    def recall_samples(self) -> list[tuple[int, float]]:
        """(stratum, recall of the exact list) of sampled users whose exact list is not empty."""
        if self._exact is None:
            return []
        samples = []
        lists = zip(self._strata, self._exact.best, self.best[self._sampled], strict=True)
        for stratum, exact, approximate in lists:
            if len(exact := exact[exact != EMPTY]):
                samples.append((stratum, float(np.isin(exact, approximate).mean())))
        return samples

    @property
    def best(self) -> Entries:
        """(B, k) entries by score."""
        return self._running.listed_entries[:, : self._k]

    def lists(self) -> Iterator[pa.RecordBatch]:
        """Finished lists as rows, in the order of users and ranks."""
        entries = self._running.listed_entries
        if self._rules.diversity:
            entries = _diversified(self._items, entries, self._k, self._rules.diversity)
        yield from as_rows(self._items, self.ids, self._with_pins(entries[:, : self._k]))

    def _routes(self, block: pa.RecordBatch) -> list[Route] | None:
        """Users that each run of the block is scored for; None if all users are scored against all items."""
        if self._keys is None and self._probes == [None] and not self._restricted.any():
            return None
        everyone, runs = np.arange(len(self._restricted)), list(_runs(block))
        return [
            Route(self._eligible(everyone if probes is None else probes[number], key), start, stop)
            for probes in self._probes
            for key, number, start, stop in runs
        ]

    def _eligible(self, rows: Rows, key: str | None) -> Rows:
        """Users of ``rows`` that may be listed items with this key."""
        if self._keys is not None:
            rows = np.intersect1d(rows, self._keys.get(key, rows[:0]), assume_unique=True)
        return rows[~self._restricted[rows]]


def _boosted(rules: ListRules) -> bool:
    return rules.boosts or rules.freshness is not None


def _without(pairs: Pairs, barred: Barred | None) -> Pairs:
    """Pairs that are not barred."""
    if barred is None or not len(pairs[0]):
        return pairs
    kept = ~barred.pairs(*pairs)
    return pairs[0][kept], pairs[1][kept]


def _tile_product(flops: float) -> TileProduct:
    """Multiply on the GPU that Spark assigned to the task, otherwise on the CPU."""
    context = TaskContext.get()
    device = task_device(context)
    if device == "cpu":
        return cpu_product(flops, context.cpus() if context else 1)
    from recsys_spark.topk.kernels.torch_product import torch_product

    return replace(torch_product(device), loops=loops_for(flops))  # which score pairs; the GPU selects them


def _probes(vectors: NDArray[np.float32], items: ItemBlocks, nprobe: int) -> list[list[Rows] | None]:
    """For each round, the rows that probe each cluster."""
    probed = nearest_clusters(vectors, items.centroids(), nprobe)
    return [_rows_by_cluster(part, items.clusters) for part in np.split(probed, _ROUNDS, axis=1)]


def _rows_by_cluster(probed: NDArray[np.int64], clusters: int) -> list[Rows]:
    """Rows that probe each cluster, from the clusters that each row probes."""
    order = np.argsort(probed.ravel(), kind="stable")
    borders = np.searchsorted(probed.ravel()[order], np.arange(1, clusters))
    return np.split(order // max(probed.shape[1], 1), borders)


def _runs(block: pa.RecordBatch) -> Iterator[tuple[str | None, int, int, int]]:
    """(match_key, cluster, start, stop) of each run of rows that have the same key and cluster."""
    clusters, keys = block["cluster"].to_numpy(), block["match_key"].dictionary_encode()
    codes = keys.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    starts = np.flatnonzero(np.r_[True, (np.diff(clusters) != 0) | (np.diff(codes) != 0)])
    names = [*keys.dictionary.to_pylist(), None]  # code −1 is the last name
    for start, stop in zip(starts, [*starts[1:], block.num_rows], strict=True):
        yield names[codes[start]], int(clusters[start]), int(start), int(stop)


def _diversified(items: ItemBlocks, candidate_entries: Entries, k: int, diversity: float) -> Entries:
    """Choose (B, k) of (B, c) entries by maximal marginal relevance.

    Reads all blocks once for every ``DIVERSIFIED_AT_ONCE`` users.
    """
    chosen = np.full((len(candidate_entries), k), EMPTY)
    for first in range(0, len(candidate_entries), DIVERSIFIED_AT_ONCE):
        part = candidate_entries[first : first + DIVERSIFIED_AT_ONCE]
        vectors = np.zeros((part.size, items.dimension), np.float32)
        filled = np.flatnonzero(part != EMPTY)
        for positions, block, rows in locate_items(items.blocks(), ordinals_of(part.ravel()[filled])):
            vectors[filled[positions]] = block["embedding"].values.to_numpy().reshape(block.num_rows, -1)[rows]
        for row, (entries, user_vectors) in enumerate(zip(part, vectors.reshape(*part.shape, -1), strict=True)):
            count = int((entries != EMPTY).sum())
            order = mmr_order(scores_of(entries[:count]), user_vectors[:count], diversity, k)
            chosen[first + row, : len(order)] = entries[order]
    return chosen
