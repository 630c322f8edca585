"""Exact blockwise Top-K by inner product, in bounded memory.

The product of two tiles runs in float32 and only shortlists (``shortlist.py``): pairs that may still belong to a list
are scored again in float64, pair by pair, and rounded to float32. Lists therefore do not depend on block sizes, on the
order in which blocks arrive, nor on the machine that multiplies.

An entry of a list is one unsigned integer: the score, turned so that greater scores are smaller integers, then the
item's ordinal. The order of these integers is the order of the list, ties included.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from recsys_spark.topk.kernels.exact_scores import exact_scores, longest
from recsys_spark.topk.kernels.quota import over_quota, within_quota
from recsys_spark.topk.kernels.reservoir import Reservoir
from recsys_spark.topk.kernels.routes import NO_PAIRS, Barred, Pairs, Route, Rows
from recsys_spark.topk.kernels.shortlist import (
    NUMPY,
    ErrorBound,
    Scores,
    Shortlist,
    TileProduct,
    ascending,
    descending,
    in_rows,
    tile_rows,
)

Entries = NDArray[np.uint64]
"""Elements of lists: score and ordinal as one integer."""

EMPTY = np.uint64(np.iinfo(np.uint64).max)
"""An entry without item and score."""

_NO_ITEM = np.int64(2**32 - 1)  # ordinal of an entry that only has a score: its successor must score at least as much

_QUOTA_COLUMNS = 512


def entries_of(scores: Scores, ordinals: Rows) -> Entries:
    """Pack finite scores and ordinals (below 2³²) as entries, ascending in the order of a list."""
    return descending(scores) << np.uint64(32) | ordinals.astype(np.uint64)


def scores_of(entries: Entries) -> Scores:
    """Scores of entries; −inf for EMPTY."""
    return np.where(entries == EMPTY, np.float32(-np.inf), ascending(entries >> np.uint64(32)))


def ordinals_of(entries: Entries) -> NDArray[np.int64]:
    """Ordinals of entries that are not EMPTY."""
    return (entries & np.uint64(0xFFFFFFFF)).astype(np.int64)


class RunningTopK:
    """The k best items so far of each of B queries. Besides the inputs: 8·B·k bytes (16 with a quota) and one tile."""

    def __init__(
        self,
        queries: Scores,
        k: int,
        *,
        min_score: float | None = None,
        quota: int | None = None,
        tile_product: TileProduct = NUMPY,
    ) -> None:
        """Start with empty lists.

        Args:
            queries: (B, d).
            k: list length.
            min_score: lower scores are not listed.
            quota: maximum number of items of one group in a list.
            tile_product: multiplies queries and items.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, found {k}")
        self._queries = np.ascontiguousarray(queries)
        self._min_score = np.float32(np.finfo(np.float32).min if min_score is None else min_score)
        self._quota, self._tile_product = quota or 0, tile_product
        self._length = longest(self._queries, tile_product.loops)
        self.entries: Entries = np.full((len(queries), k), EMPTY)
        self._groups = np.full(self.entries.shape if quota else (0, 0), -1, np.int64)

    def start_at(self, rows: Rows, floors: Scores) -> None:
        """Set score floors (finite) of ``rows`` of queries before the first offer: lower scores are not listed."""
        self.entries[rows] = entries_of(floors.astype(np.float32), np.full(len(rows), _NO_ITEM))[:, None]

    @property
    def listed_entries(self) -> Entries:
        """(B, k) entries in the order of the lists, EMPTY where there is no item."""
        return np.where(ordinals_of(self.entries) == _NO_ITEM, EMPTY, self.entries)

    def update(
        self,
        items: Scores,
        ordinals: Rows,
        *,
        routes: Sequence[Route] | None = None,
        excluded: Pairs = NO_PAIRS,
        allowed: Pairs = NO_PAIRS,
        groups: NDArray[np.int64] | None = None,
        barred: Barred | None = None,
    ) -> None:
        """Offer a block of n items.

        Args:
            items, ordinals: (n, d) and (n,).
            routes: the parts of the block that queries are scored against; by default all queries against all items.
            excluded: (rows, columns) that must not be listed.
            allowed: (rows, columns) that are scored in addition to the routes.
            groups: (n,) for the quota; a negative group has none.
            barred: further pairs of the routes that must not be listed.
        """
        routes = [Route(np.arange(len(self._queries)), 0, len(items))] if routes is None else routes
        step = _QUOTA_COLUMNS if self._quota else max(len(items), 1)  # under a quota, floors rise only between updates
        for start in range(0, len(items), step):
            part = slice(start, start + step)
            self._update(
                items[part],
                ordinals[part],
                [route.clipped(start, start + step) for route in routes],
                _of_columns(excluded, start, start + step),
                _of_columns(allowed, start, start + step),
                None if groups is None else groups[part],
                None if barred is None else barred.of_columns(start, start + step),
            )

    def offer(self, rows: Rows, scores: Scores, ordinals: Rows, *, groups: NDArray[np.int64] | None = None) -> None:
        """Offer scored pairs: ascending ``rows`` of queries, and for each the score, the item's ordinal and its group.

        Besides the inputs: 8·(k + p) bytes for each of 1,024 queries with at most p pairs.
        """
        eligible = scores >= self._min_score
        if not self._quota:
            eligible &= scores >= scores_of(self.entries[:, -1])[rows]
        rows, scores, ordinals = rows[eligible], scores[eligible], ordinals[eligible]
        groups = None if groups is None else groups[eligible]
        for first in range(0, len(self._queries), self._tile_product.rows):
            tile = slice(first, min(first + self._tile_product.rows, len(self._queries)))
            part = slice(*np.searchsorted(rows, (tile.start, tile.stop)))
            new = entries_of(scores[part], ordinals[part])
            self._merge(tile, rows[part] - first, new, groups, np.arange(part.start, part.stop))

    def _update(
        self,
        items: Scores,
        ordinals: Rows,
        routes: list[Route],
        excluded: Pairs,
        allowed: Pairs,
        groups: NDArray[np.int64] | None,
        barred: Barred | None,
    ) -> None:
        product = self._tile_product
        error = product.error_bound(self._queries, items)
        routed = any(len(route.rows) < len(self._queries) for route in routes)
        height = tile_rows(product, routed)
        lengths = self._length * longest(items, product.loops)
        for first in range(0, len(self._queries), height):
            tile = slice(first, min(first + height, len(self._queries)))
            listed, tile_routes = scores_of(self.entries[tile]), [route.of_rows(tile) for route in routes]
            tile_barred = None if barred is None else barred.of_rows(tile)
            put = partial(self._put, tile, items, lengths, ordinals, groups)
            if product.loops and product.raw and not self._quota:
                reservoir = Reservoir(
                    self._queries[tile], items, listed, self._min_score, error, product, product.raw, put
                )
                reservoir.scan(tile_routes, _of_rows(excluded, tile), tile_barred)
                rows, columns = reservoir.pairs()
            else:
                rows, columns = self._shortlisted(
                    tile, items, listed, tile_routes, excluded, tile_barred, groups, error
                )
            put(*_merged(rows, columns, _of_rows(allowed, tile)))

    def _shortlisted(
        self,
        tile: slice,
        items: Scores,
        listed: Scores,
        routes: list[Route],
        excluded: Pairs,
        barred: Barred | None,
        groups: NDArray[np.int64] | None,
        error: ErrorBound,
    ) -> Pairs:
        shortlist = Shortlist(self._queries[tile], items, listed, self._min_score, error, bool(self._quota))
        shortlist.scan(routes, _of_rows(excluded, tile), self._tile_product, barred)
        rows, columns, products = shortlist.pairs()
        if groups is None:
            return rows, columns
        max_scores = -error.scores(-products)
        full = over_quota(rows, groups[columns], max_scores, self._groups[tile], listed, self._quota)
        return rows[~full], columns[~full]

    def _put(
        self,
        tile: slice,
        items: Scores,
        lengths: float,
        ordinals: Rows,
        groups: NDArray[np.int64] | None,
        rows: Rows,
        columns: Rows,
    ) -> Scores:
        """Score the pairs exactly and merge them with the lists of the tile, whose scores are returned."""
        product = self._tile_product
        scores = exact_scores(self._queries[tile], rows, items, columns, product.loops, lengths, product.threads)
        eligible = scores >= self._min_score
        new = entries_of(scores[eligible], ordinals[columns[eligible]])
        self._merge(tile, rows[eligible], new, groups, columns[eligible])
        return scores_of(self.entries[tile])

    def _merge(self, tile: slice, rows: Rows, new: Entries, groups: NDArray[np.int64] | None, columns: Rows) -> None:
        lists = self.entries[tile]
        touched, line, position, width = in_rows(rows, len(lists))
        k = lists.shape[1]
        wide = np.full((len(touched), k + width), EMPTY)
        wide[:, :k] = lists[touched]
        wide[line, k + position] = new
        if groups is None:
            wide.partition(k - 1, axis=1)
            lists[touched] = np.sort(wide[:, :k], axis=1)
            return
        wide_groups = np.full(wide.shape, -1, np.int64)
        wide_groups[:, :k] = self._groups[tile][touched]
        wide_groups[line, k + position] = groups[columns]
        wide, wide_groups = within_quota(wide, wide_groups, self._quota, EMPTY)
        lists[touched], self._groups[tile][touched] = wide[:, :k], wide_groups[:, :k]


def _merged(rows: Rows, columns: Rows, pairs: Pairs) -> Pairs:
    """(rows, columns) and ``pairs`` together, rows ascending."""
    both_rows, both_columns = np.concatenate([rows, pairs[0]]), np.concatenate([columns, pairs[1]])
    order = np.argsort(both_rows, kind="stable")
    return both_rows[order], both_columns[order]


def _of_rows(pairs: Pairs, tile: slice) -> Pairs:
    inside = (pairs[0] >= tile.start) & (pairs[0] < tile.stop)
    return pairs[0][inside] - tile.start, pairs[1][inside]


def _of_columns(pairs: Pairs, start: int, stop: int) -> Pairs:
    inside = (pairs[1] >= start) & (pairs[1] < stop)
    return pairs[0][inside], pairs[1][inside] - start
