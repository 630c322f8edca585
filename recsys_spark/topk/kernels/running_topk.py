"""Exact blockwise Top-K by inner product, in bounded memory.

The product of two tiles runs in float32 and only shortlists (``shortlist.py``): what could still belong to a list is
scored again in float64, pair by pair, and rounded to float32. Lists therefore do not depend on block sizes, on the
order in which blocks arrive, nor on the machine that multiplies.

A place in a list is one unsigned number: the score, turned so that greater scores are smaller numbers, then the item's
ordinal. The order of these numbers is the order of the list, ties included.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys_spark.topk.kernels.quota import crowded_out, within_quota
from recsys_spark.topk.kernels.shortlist import (
    NO_PAIRS,
    NUMPY,
    Pairs,
    Route,
    Rows,
    Scores,
    Shortlist,
    TileProduct,
    ascending,
    descending,
    in_rows,
    tile_rows,
)

Entries = NDArray[np.uint64]

EMPTY = np.uint64(np.iinfo(np.uint64).max)
"""A place that holds no item."""

_NO_ITEM = np.int64(2**32 - 1)  # in a place with a score: what takes it must be at least as good

_PAIRS_AT_ONCE = 256

_QUOTA_COLUMNS = 512


def entries_of(scores: Scores, ordinals: Rows) -> Entries:
    """Finite scores and ordinals (below 2³²) as one number each, ascending in the order of a list."""
    return descending(scores) << np.uint64(32) | ordinals.astype(np.uint64)


def scores_of(taken: Entries) -> Scores:
    """The scores of places; −inf where a place is empty."""
    return np.where(taken == EMPTY, np.float32(-np.inf), ascending(taken >> np.uint64(32)))


def ordinals_of(taken: Entries) -> NDArray[np.int64]:
    """The ordinals of places that are not empty."""
    return (taken & np.uint64(0xFFFFFFFF)).astype(np.int64)


class RunningTopK:
    """The k best items so far for each of B queries. Beside the inputs: 8·B·k bytes (16 with a quota) and one tile."""

    def __init__(
        self,
        queries: Scores,
        k: int,
        *,
        least: float | None = None,
        quota: int | None = None,
        multiplier: TileProduct = NUMPY,
    ) -> None:
        """``least``: lower scores are not listed. ``quota``: most items of one group in a list. ``multiplier``:
        what multiplies."""
        if k < 1:
            raise ValueError(f"k must be at least 1, found {k}")
        self._queries = np.ascontiguousarray(queries)
        self._least = np.float32(np.finfo(np.float32).min if least is None else least)
        self._quota, self._multiplier = quota or 0, multiplier
        self.entries: Entries = np.full((len(queries), k), EMPTY)
        self._groups = np.full(self.entries.shape if quota else (0, 0), -1, np.int64)

    def start_at(self, rows: Rows, floors: Scores) -> None:
        """Before any offer: nothing below ``floors``, finite scores, is listed to these ``rows`` of queries."""
        self.entries[rows] = entries_of(floors.astype(np.float32), np.full(len(rows), _NO_ITEM))[:, None]

    @property
    def taken(self) -> Entries:
        """(B, k) places, EMPTY where there is no item."""
        return np.where(ordinals_of(self.entries) == _NO_ITEM, EMPTY, self.entries)

    def update(
        self,
        items: Scores,
        ordinals: Rows,
        *,
        routes: Sequence[Route] | None = None,
        excluded: Pairs = NO_PAIRS,
        given: Pairs = NO_PAIRS,
        groups: NDArray[np.int64] | None = None,
    ) -> None:
        """Offer a block of n items.

        Args:
            items, ordinals: (n, d) and (n,).
            routes: which queries meet which part of the block; by default all meet all.
            excluded: (rows, columns) that must not be listed.
            given: (rows, columns) offered whatever the routes say.
            groups: (n,) for the quota; a negative group has none.
        """
        routes = [Route(np.arange(len(self._queries)), 0, len(items))] if routes is None else routes
        step = _QUOTA_COLUMNS if self._quota else max(len(items), 1)  # no floor rises within a block under a quota
        for start in range(0, len(items), step):
            part = slice(start, start + step)
            self._update(
                items[part],
                ordinals[part],
                [route.clipped(start, start + step) for route in routes],
                _of_columns(excluded, start, start + step),
                _of_columns(given, start, start + step),
                None if groups is None else groups[part],
            )

    def offer(self, rows: Rows, scores: Scores, ordinals: Rows, *, groups: NDArray[np.int64] | None = None) -> None:
        """Offer scored pairs: ascending ``rows`` of queries, and for each the score, the item's ordinal and its group.

        Beside the inputs: 8·(k + p) bytes for each of 1,024 queries with at most p pairs.
        """
        good = scores >= self._least
        if not self._quota:
            good &= scores >= scores_of(self.entries[:, -1])[rows]
        rows, scores, ordinals = rows[good], scores[good], ordinals[good]
        groups = None if groups is None else groups[good]
        for first in range(0, len(self._queries), self._multiplier.rows):
            tile = slice(first, min(first + self._multiplier.rows, len(self._queries)))
            part = slice(*np.searchsorted(rows, (tile.start, tile.stop)))
            new = entries_of(scores[part], ordinals[part])
            self._merge(tile, rows[part] - first, new, groups, np.arange(part.start, part.stop))

    def _update(
        self,
        items: Scores,
        ordinals: Rows,
        routes: list[Route],
        excluded: Pairs,
        given: Pairs,
        groups: NDArray[np.int64] | None,
    ) -> None:
        error = self._multiplier.error(self._queries, items)
        routed = any(len(route.rows) < len(self._queries) for route in routes)
        height = tile_rows(self._multiplier, routed)
        for first in range(0, len(self._queries), height):
            tile = slice(first, min(first + height, len(self._queries)))
            found = Shortlist(
                self._queries[tile], items, scores_of(self.entries[tile]), self._least, error, bool(self._quota)
            )
            found.scan([route.of_rows(tile) for route in routes], _of_rows(excluded, tile), self._multiplier)
            rows, columns, products = found.pairs()
            if groups is not None:
                kept = ~crowded_out(
                    rows, groups[columns], -error.scores(-products), self._groups[tile], found.listed, self._quota
                )
                rows, columns = rows[kept], columns[kept]
            more = _of_rows(given, tile)
            order = np.argsort(np.concatenate([rows, more[0]]), kind="stable")
            rows, columns = np.concatenate([rows, more[0]])[order], np.concatenate([columns, more[1]])[order]
            scores = exact_scores(self._queries[tile], rows, items, columns)
            good = scores >= self._least
            self._merge(tile, rows[good], entries_of(scores[good], ordinals[columns[good]]), groups, columns[good])

    def _merge(self, tile: slice, rows: Rows, new: Entries, groups: NDArray[np.int64] | None, columns: Rows) -> None:
        lists = self.entries[tile]
        touched, line, place, width = in_rows(rows, len(lists))
        k = lists.shape[1]
        wide = np.full((len(touched), k + width), EMPTY)
        wide[:, :k] = lists[touched]
        wide[line, k + place] = new
        if groups is None:
            wide.partition(k - 1, axis=1)
            lists[touched] = np.sort(wide[:, :k], axis=1)
            return
        wide_groups = np.full(wide.shape, -1, np.int64)
        wide_groups[:, :k] = self._groups[tile][touched]
        wide_groups[line, k + place] = groups[columns]
        wide, wide_groups = within_quota(wide, wide_groups, self._quota, EMPTY)
        lists[touched], self._groups[tile][touched] = wide[:, :k], wide_groups[:, :k]


def exact_scores(queries: Scores, rows: Rows, items: Scores, columns: Rows) -> Scores:
    """The dot product of each pair in float64, rounded to float32: a function of the two vectors alone."""
    scores = np.empty(len(rows), np.float32)
    order = np.argsort(columns)  # neighbours in memory
    for start in range(0, len(rows), _PAIRS_AT_ONCE):  # what fits in the cache of a core
        part = order[start : start + _PAIRS_AT_ONCE]
        left, right = queries[rows[part]].astype(np.float64), items[columns[part]].astype(np.float64)
        scores[part] = np.einsum("ij,ij->i", left, right)
    return scores


def _of_rows(pairs: Pairs, tile: slice) -> Pairs:
    inside = (pairs[0] >= tile.start) & (pairs[0] < tile.stop)
    return pairs[0][inside] - tile.start, pairs[1][inside]


def _of_columns(pairs: Pairs, start: int, stop: int) -> Pairs:
    inside = (pairs[1] >= start) & (pairs[1] < stop)
    return pairs[0][inside], pairs[1][inside] - start
