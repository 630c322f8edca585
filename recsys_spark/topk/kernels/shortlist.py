"""Which pairs of a tile of queries and a block of items may enter a list: float32 products above a rising floor.

A pair is dropped only when its product proves that k others have a greater exact score.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]

Rows = NDArray[np.integer]

Number = TypeVar("Number", bound=np.generic)

Pairs = tuple[Rows, Rows]
"""(rows of queries, columns of a block)."""

Product = Callable[[Scores, Scores, Scores, np.float32, Pairs, int, "ErrorBound"], tuple[Rows, Rows, Scores]]
"""(queries, items, floor, least, excluded, k, error) to the pairs at or above both floors, row by row, and their
products.

``floor`` is −inf for queries without a full list: for k > 0 it is raised in place to what may be as good as the k-th
product of the tile (``ErrorBound.rival``). ``excluded`` pairs are left out.
"""


@dataclass(frozen=True)
class ErrorBound:
    """How far a product may be from the exact score: by no more than ``absolute``."""

    absolute: np.float32

    def scores(self, products: Scores) -> Scores:
        """The least score of pairs with these products."""
        return products - self.absolute

    def products(self, scores: Scores) -> Scores:
        """The least product of pairs with these scores."""
        return scores - self.absolute

    def rival(self, products: Scores) -> Scores:
        """The least product of pairs that may score as much as those with these products."""
        return self.products(self.scores(products))


NO_PAIRS: Pairs = (np.empty(0, np.int64), np.empty(0, np.int64))


def descending(scores: Scores) -> NDArray[np.uint64]:
    """Finite scores as numbers below 2³² that rise as scores fall; 0 and −0 are one."""
    bits = (scores + np.float32(0)).view(np.uint32)
    return (~np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))).astype(np.uint64)


def ascending(numbers: NDArray[np.uint64]) -> Scores:
    """The scores that the low 32 bits stand for: the inverse of ``descending``."""
    rising = ~numbers.astype(np.uint32)
    return np.where(rising >> 31, rising & np.uint32((1 << 31) - 1), ~rising).view(np.float32)


_LEAST = np.float32(-1e37)  # of any score: sums with an error stay finite


@dataclass(frozen=True)
class Route:
    """The queries ``rows`` (ascending) meet the items ``start … stop − 1`` of a block."""

    rows: Rows
    start: int
    stop: int

    def clipped(self, start: int, stop: int) -> "Route":
        """The part within these columns, counted from ``start``."""
        return Route(self.rows, max(self.start, start) - start, min(self.stop, stop) - start)

    def of_rows(self, tile: slice) -> "Route":
        """The part within these rows, counted from the first."""
        first, last = np.searchsorted(self.rows, (tile.start, tile.stop))
        return Route(self.rows[first:last] - tile.start, self.start, self.stop)


def numpy_product(
    queries: Scores, items: Scores, floor: Scores, least: np.float32, excluded: Pairs, k: int, error: ErrorBound
) -> tuple[Rows, Rows, Scores]:
    """A ``Product`` on the CPU."""
    shape = len(queries), len(items)
    product, above = tile_buffer("float32", shape, np.float32), tile_buffer("above", shape, np.bool_)
    np.matmul(queries, items.T, out=product)
    product[excluded] = -np.inf
    width = len(items)
    without = np.flatnonzero(np.isneginf(floor))
    if 0 < k < width and len(without):
        floor[without] = error.rival(np.partition(product[without], width - k, axis=1)[:, width - k])
    np.greater_equal(product, np.maximum(floor, least)[:, None], out=above)
    flat = np.flatnonzero(above)
    rows, columns = np.divmod(flat, width)
    return rows, columns, product.ravel()[flat]


def tile_buffer(name: str, shape: tuple[int, int], kind: type[Number]) -> NDArray[Number]:
    """Memory of the last tile: a new one for every tile would be new pages for the system to clear."""
    size = shape[0] * shape[1]
    if len(_BUFFERS.get(name, ())) < size:
        _BUFFERS[name] = np.empty(size, kind)
    return _BUFFERS[name][:size].reshape(shape)


_BUFFERS: dict[str, NDArray[Any]] = {}


def product_error_bound(queries: Scores, items: Scores) -> ErrorBound:
    """How far a float32 product may be from the exact score: |fl(x·y) − x·y| ≤ γ·|x||y|, γ = d·u/(1 − d·u), u = 2⁻²⁴.

    Higham, Accuracy and Stability of Numerical Algorithms, §3.1; another 2·u for the rounding of the score itself.
    """
    unit = 2.0**-24
    bound = items.shape[1] * unit / (1 - items.shape[1] * unit) + 2 * unit
    return ErrorBound(np.float32(1.01 * bound * _longest(queries) * _longest(items)))


def _longest(vectors: Scores) -> float:
    return float(np.sqrt(np.einsum("ij,ij->i", vectors, vectors).max(initial=0.0)))


@dataclass(frozen=True)
class TileProduct:
    """What multiplies, and in tiles of how many queries and items: large enough for a matrix product, small enough for
    a cache."""

    product: Product
    rows: int
    columns: int
    error: Callable[[Scores, Scores], ErrorBound] = product_error_bound
    """How far a product of (queries, items) may be from the exact score."""

    def probabilistic(self) -> "TileProduct":
        """For lists that are approximate anyway: as far as four standard deviations of d independent roundings."""

        def error(queries: Scores, items: Scores) -> ErrorBound:
            proven = self.error(queries, items)
            return replace(proven, absolute=proven.absolute * np.float32(min(1.0, 4 / items.shape[1] ** 0.5)))

        return replace(self, error=error)


NUMPY = TileProduct(numpy_product, 1024, 2048)


def tile_rows(multiplier: TileProduct, routed: bool) -> int:
    """Queries of one shortlist: more where few of them take each route; their numbers have 16 bits."""
    return min(multiplier.rows * (16 if routed else 1), 1 << 16)


class Shortlist:
    """The pairs found so far. Holds 14 bytes a pair, 3·k of a query and those of one tile."""

    def __init__(
        self, queries: Scores, items: Scores, listed: Scores, least: np.float32, error: ErrorBound, by_group: bool
    ) -> None:
        """``listed``: the scores of the lists so far, −inf where a place is empty. ``by_group``: k greater scores do
        not keep an item out, for some may be of a full group."""
        self._queries, self._items = queries, items
        self.listed, self._error, self._by_group = listed, error, by_group
        self._floor = error.products(listed[:, -1])
        self._least = np.float32(error.products(np.maximum(least, _LEAST)))
        self._found: list[tuple[Rows, Rows, Scores]] = [_NOTHING]
        self._count = 0

    def scan(self, routes: Sequence[Route], excluded: Pairs, multiplier: TileProduct) -> None:
        """Multiply along the routes."""
        order = np.argsort(excluded[1], kind="stable")
        excluded = excluded[0][order], excluded[1][order]
        for route in routes:
            for start in range(route.start, route.stop if len(route.rows) else 0, multiplier.columns):
                part = Route(route.rows, start, min(start + multiplier.columns, route.stop))
                self._tile(part, excluded, multiplier.product)
                if self._count > 3 * self.listed.size:
                    self._prune()
        self._prune()

    def pairs(self) -> tuple[Rows, Rows, Scores]:
        """Rows ascending, columns, products."""
        rows, columns, products = self._found[0]
        order = np.argsort(rows, kind="stable")  # 16 bits: a radix sort
        return rows[order], columns[order], products[order]

    def _tile(self, route: Route, excluded: Pairs, product: Product) -> None:
        rows, columns = route.rows, slice(route.start, route.stop)
        queries = self._queries if len(rows) == len(self._queries) else self._queries[rows]
        floor = self._floor[rows]
        whole = len(rows) == len(self._queries)
        k = self.listed.shape[1] if whole and not self._by_group else 0  # a short route proves little
        found = product(queries, self._items[columns], floor, self._least, _on(route, excluded), k, self._error)
        self._floor[rows] = floor
        self._found.append((rows[found[0]].astype(np.uint16), (found[1] + route.start).astype(np.int64), found[2]))
        self._count += len(found[0])

    def _prune(self) -> None:
        """Raise the floor to what k lower bounds prove, and drop what lies below."""
        rows, columns, products = (np.concatenate(part) for part in zip(*self._found, strict=True))
        if not self._by_group and len(rows):
            self._raise_floor(rows, products)
            kept = products >= self._floor[rows]
            rows, columns, products = rows[kept], columns[kept], products[kept]
        self._found, self._count = [(rows, columns, products)], len(rows)

    def _raise_floor(self, rows: Rows, products: Scores) -> None:
        """One sort of (row, bound) as one number each finds the k-th bound of every row."""
        listed_rows, _ = np.nonzero(self.listed > -np.inf)
        bounds = np.concatenate([self._error.scores(products), self.listed[self.listed > -np.inf]])
        owners = np.concatenate([rows, listed_rows]).astype(np.uint64)
        ordered = np.sort(owners << np.uint64(32) | descending(bounds))
        counts = np.bincount(owners.astype(np.int64), minlength=len(self.listed))
        k, ends = self.listed.shape[1], np.cumsum(counts)
        full = np.flatnonzero(counts >= k)
        kth = ascending(ordered[(ends - counts)[full] + k - 1])
        self._floor[full] = np.maximum(self._floor[full], self._error.products(kth))


_NOTHING = np.empty(0, np.uint16), np.empty(0, np.int64), np.empty(0, np.float32)


def in_rows(rows: Rows, count: int) -> tuple[Rows, Rows, Rows, int]:
    """For ascending rows below ``count``: the distinct ones, for each entry the number of its row among them and its
    place within the row, and the most entries of a row."""
    counts = np.bincount(rows, minlength=count)
    touched = np.flatnonzero(counts)
    starts = np.cumsum(counts) - counts
    line = np.repeat(np.arange(len(touched)), counts[touched])
    return touched, line, np.arange(len(rows)) - starts[rows], int(counts.max(initial=0))


def _on(route: Route, excluded: Pairs) -> Pairs:
    """Excluded pairs (sorted by column) of a route, by place in its rows and columns."""
    first, last = np.searchsorted(excluded[1], (route.start, route.stop))
    if first == last:
        return NO_PAIRS
    rows, columns = excluded[0][first:last], excluded[1][first:last] - route.start
    place = np.searchsorted(route.rows, rows).clip(max=len(route.rows) - 1)
    there = route.rows[place] == rows
    return place[there], columns[there]
