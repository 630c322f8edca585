"""Shortlist the pairs of a tile of queries and a block of items by compiled loops, in bounded memory."""

from collections.abc import Callable, Sequence

import numpy as np

from recsys_spark.topk.kernels.routes import Barred, Excluded, Pairs, Route, Rows, left_out, sorted_by_column
from recsys_spark.topk.kernels.shortlist import ErrorBound, RawProduct, Scores, TileProduct, least_product
from recsys_spark.topk.kernels.threads import in_threads

_CHUNK = 64  # pairs that the loops may append before they look for room


class Reservoir:
    """Room for 3·k + 96 pairs of each query, at 8 bytes each. A query that fills it raises its floor.

    Pairs with almost equal products may fill it for good. They are scored and offered to the list then, and the last
    score of the list is the next floor.
    """

    def __init__(
        self,
        queries: Scores,
        items: Scores,
        listed: Scores,
        min_score: np.float32,
        error: ErrorBound,
        tile_product: TileProduct,
        raw: RawProduct,
        put: Callable[[Rows, Rows], Scores],
    ) -> None:
        """Start without pairs.

        Args:
            queries: (n, d).
            items: (m, d), a block.
            listed: (n, k) scores of the lists so far, descending; −inf where an entry is empty.
            min_score: lower scores are not listed.
            error: bound of the products of queries and items.
            tile_product: with ``loops``.
            raw: its product.
            put: offers pairs (rows, columns) to the lists, and returns the (n, k) scores of these.
        """
        self._queries, self._items, self._put, self._error = queries, items, put, error
        self._tile_product, self._raw, self._loops = tile_product, raw, tile_product.loops
        self._listed = np.ascontiguousarray(listed)
        self._floor = error.products(listed[:, -1])
        self._min_product = least_product(error, min_score)
        room = 3 * listed.shape[1] + _CHUNK + _CHUNK // 2
        self._columns = np.empty((len(queries), room), np.int32)
        self._products = np.empty((len(queries), room), np.float32)
        self._counts = np.zeros(len(queries), np.int64)

    def scan(self, routes: Sequence[Route], excluded: Pairs, barred: Barred | None = None) -> None:
        """Add the pairs of the routes."""
        excluded = sorted_by_column(excluded)
        for route in routes:
            for part in route.tiles(self._tile_product.columns):
                self._add_tile(part, left_out(part, excluded, barred))

    def pairs(self) -> Pairs:
        """(rows, columns) of the pairs that may still enter a list, rows ascending."""
        self._loops.thin(*self._state())
        return self._pairs_of(np.arange(len(self._queries)))

    def _add_tile(self, route: Route, excluded: Excluded) -> None:
        rows = np.ascontiguousarray(route.rows, np.int64)
        queries = self._queries if len(rows) == len(self._queries) else self._queries[rows]
        tile = self._raw(queries, self._items[route.start : route.stop])
        starts, width = np.zeros(len(rows), np.int64), route.stop - route.start
        tile[: len(rows), :width][excluded] = -np.inf if tile.dtype == np.float32 else _MINUS_INFINITY

        def append(first: int, stop: int) -> int:
            part = tile[first:stop]
            products = (part, _NO_BITS) if tile.dtype == np.float32 else (_NO_FLOATS, part)
            lines = rows[first:stop], starts[first:stop], width, route.start, self._min_product
            return int(self._loops.append(*products, *lines, *self._state()))

        while any(in_threads(self._tile_product.threads, len(rows), append)):
            self._put_pairs(rows[starts < width])

    def _put_pairs(self, rows: Rows) -> None:
        """Empty the reservoirs of these queries."""
        listed = self._put(*self._pairs_of(rows))
        self._listed[rows], self._counts[rows] = listed[rows], 0
        self._floor[rows] = np.maximum(self._floor[rows], self._error.products(listed[rows, -1]))

    def _pairs_of(self, rows: Rows) -> Pairs:
        counts = self._counts[rows]
        filled = np.arange(self._columns.shape[1]) < counts[:, None]
        return np.repeat(rows, counts), self._columns[rows][filled].astype(np.int64)

    def _state(self) -> tuple[object, ...]:
        """Arguments that the loops have in common."""
        state = self._listed, self._columns, self._products, self._counts
        return self._floor, self._error.absolute, self._error.short, *state


_MINUS_INFINITY = 0xFF80  # in bfloat16

_NO_FLOATS, _NO_BITS = np.empty((0, 0), np.float32), np.empty((0, 0), np.uint16)
