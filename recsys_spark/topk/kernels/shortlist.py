"""Shortlist the pairs of a tile of queries and a block of items: float32 products above a rising floor.

A pair is dropped only when its product proves that k others have a greater exact score.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from recsys_spark.topk.kernels.routes import Barred, Excluded, Pairs, Route, Rows, left_out, sorted_by_column

Scores = NDArray[np.float32]

Number = TypeVar("Number", bound=np.generic)

Product = Callable[[Scores, Scores, Scores, np.float32, Excluded, int, "ErrorBound"], tuple[Rows, Rows, Scores]]
"""(queries, items, floor, min_product, excluded, k, error) → (rows, columns, products) of the pairs whose product is at
or above ``floor`` of the query and ``min_product``, row by row.

``floor`` is −inf for queries without a full list: for k > 0 it is raised in place to the smallest product that may be
as good as the k-th of the tile (``ErrorBound.rival``). ``excluded`` pairs are left out.
"""

RawProduct = Callable[[Scores, Scores], NDArray[Any]]
"""(queries, items) → all their products: in float32, or as the bits of bfloat16 and then with more rows and columns."""


@dataclass(frozen=True)
class ErrorBound:
    """A product differs from the exact score by at most ``absolute``."""

    absolute: np.float32

    short = False
    """Whether products are rounded to bfloat16."""

    def scores(self, products: Scores) -> Scores:
        """Smallest exact score of pairs with these products."""
        return products - self.absolute

    def products(self, scores: Scores) -> Scores:
        """Smallest product of pairs with these exact scores."""
        return scores - self.absolute

    def rival(self, products: Scores) -> Scores:
        """Smallest product of pairs whose exact score may equal that of pairs with these products."""
        return self.products(self.scores(products))


def descending(scores: Scores) -> NDArray[np.uint64]:
    """Finite scores as integers below 2³² that rise as scores fall; 0 and −0 are the same integer."""
    bits = (scores + np.float32(0)).view(np.uint32)
    return (~np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))).astype(np.uint64)


def ascending(numbers: NDArray[np.uint64]) -> Scores:
    """Scores of the low 32 bits: the inverse of ``descending``."""
    rising = ~numbers.astype(np.uint32)
    return np.where(rising >> 31, rising & np.uint32((1 << 31) - 1), ~rising).view(np.float32)


_MIN_SCORE = np.float32(-1e37)  # of any score: sums with an error stay finite


def float32_product(queries: Scores, items: Scores) -> Scores:
    """(n, m) products in float32 with NumPy, in memory that the next product uses again."""
    product = tile_buffer("float32", (len(queries), len(items)), np.float32)
    return np.matmul(queries, items.T, out=product)


def numpy_product(
    queries: Scores,
    items: Scores,
    floor: Scores,
    min_product: np.float32,
    excluded: Excluded,
    k: int,
    error: ErrorBound,
) -> tuple[Rows, Rows, Scores]:
    """Multiply in float32 with NumPy: a ``Product``."""
    product = float32_product(queries, items)
    above = tile_buffer("above", product.shape, np.bool_)
    product[excluded] = -np.inf
    width = len(items)
    unbounded = np.flatnonzero(np.isneginf(floor))
    if 0 < k < width and len(unbounded):
        floor[unbounded] = error.rival(np.partition(product[unbounded], width - k, axis=1)[:, width - k])
    np.greater_equal(product, np.maximum(floor, min_product)[:, None], out=above)
    flat = np.flatnonzero(above)
    rows, columns = np.divmod(flat, width)
    return rows, columns, product.ravel()[flat]


def tile_buffer(name: str, shape: tuple[int, int], kind: type[Number]) -> NDArray[Number]:
    """Reuse the memory of the last tile: for new memory, the system would have to clear pages."""
    size = shape[0] * shape[1]
    if len(_BUFFERS.get(name, ())) < size:
        _BUFFERS[name] = np.empty(size, kind)
    return _BUFFERS[name][:size].reshape(shape)


_BUFFERS: dict[str, NDArray[Any]] = {}


def product_error_bound(queries: Scores, items: Scores) -> ErrorBound:
    """Bound of a float32 product: |fl(x·y) − x·y| ≤ γ·|x||y|, γ = d·u/(1 − d·u), u = 2⁻²⁴.

    Higham, Accuracy and Stability of Numerical Algorithms, §3.1; another 2·u for the rounding of the score itself.
    """
    unit = 2.0**-24
    bound = items.shape[1] * unit / (1 - items.shape[1] * unit) + 2 * unit
    return ErrorBound(np.float32(1.01 * bound * _longest(queries) * _longest(items)))


def _longest(vectors: Scores) -> float:
    return float(np.sqrt(np.einsum("ij,ij->i", vectors, vectors).max(initial=0.0)))


@dataclass(frozen=True)
class TileProduct:
    """Multiply tiles of ``rows`` queries and ``columns`` items.

    Tiles are large enough for a fast matrix product and small enough for a cache.
    """

    multiply: Product
    rows: int
    columns: int
    error_bound: Callable[[Scores, Scores], ErrorBound] = product_error_bound
    """(queries, items) → the bound of their products."""
    raw: RawProduct | None = None
    """The product that compiled loops select from; None if ``multiply`` alone can select."""
    loops: Any = None
    """The module ``compiled_loops`` if it is to select from ``raw`` and to score pairs."""
    threads: int = 1
    """Threads of the compiled loops."""

    def probabilistic(self) -> "TileProduct":
        """With a bound of four standard deviations of d independent roundings: for approximate lists only."""

        def error_bound(queries: Scores, items: Scores) -> ErrorBound:
            proven = self.error_bound(queries, items)
            return replace(proven, absolute=proven.absolute * np.float32(min(1.0, 4 / items.shape[1] ** 0.5)))

        return replace(self, error_bound=error_bound)


NUMPY = TileProduct(numpy_product, 1024, 2048, raw=float32_product)


def tile_rows(tile_product: TileProduct, routed: bool) -> int:
    """Number of queries of one shortlist: more if each route has few of them, at most 2¹⁶: rows have 16 bits."""
    return min(tile_product.rows * (16 if routed else 1), 1 << 16)


class Shortlist:
    """Pairs that may still enter a list. Holds at 14 bytes each: 3·k pairs a query, and the pairs of one tile."""

    def __init__(
        self, queries: Scores, items: Scores, listed: Scores, min_score: np.float32, error: ErrorBound, by_group: bool
    ) -> None:
        """Start without pairs.

        Args:
            queries: (n, d).
            items: (m, d), a block.
            listed: (n, k) scores of the lists so far, descending; −inf where an entry is empty.
            min_score: lower scores are not listed.
            error: bound of the products of queries and items.
            by_group: a quota applies: k greater scores do not exclude an item, because the quota may exclude them.
        """
        self._queries, self._items = queries, items
        self.listed, self._error, self._by_group = listed, error, by_group
        self._floor = error.products(listed[:, -1])
        self._min_product = least_product(error, min_score)
        self._parts: list[tuple[Rows, Rows, Scores]] = [_NO_PRODUCTS]
        self._count = 0

    def scan(
        self, routes: Sequence[Route], excluded: Pairs, tile_product: TileProduct, barred: Barred | None = None
    ) -> None:
        """Add the pairs of the routes."""
        excluded = sorted_by_column(excluded)
        for route in routes:
            for part in route.tiles(tile_product.columns):
                self._add_tile(part, left_out(part, excluded, barred), tile_product.multiply)
                if self._count > 3 * self.listed.size:
                    self._prune()
        self._prune()

    def pairs(self) -> tuple[Rows, Rows, Scores]:
        """(rows, columns, products) of the pairs, rows ascending."""
        rows, columns, products = self._parts[0]
        order = np.argsort(rows, kind="stable")  # 16 bits: a radix sort
        return rows[order], columns[order], products[order]

    def _add_tile(self, route: Route, excluded: Excluded, multiply: Product) -> None:
        rows, items = route.rows, self._items[route.start : route.stop]
        whole = len(rows) == len(self._queries)
        queries, floor = self._queries if whole else self._queries[rows], self._floor[rows]
        k = self.listed.shape[1] if whole and not self._by_group else 0  # a route of few queries raises few floors
        lines, columns, products = multiply(queries, items, floor, self._min_product, excluded, k, self._error)
        self._floor[rows] = floor
        self._parts.append((rows[lines].astype(np.uint16), (columns + route.start).astype(np.int64), products))
        self._count += len(lines)

    def _prune(self) -> None:
        """Raise the floor to the k-th lower bound of each query, and drop the pairs below it."""
        rows, columns, products = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        if not self._by_group and len(rows):
            self._raise_floor(rows, products)
            above = products >= self._floor[rows]
            rows, columns, products = rows[above], columns[above], products[above]
        self._parts, self._count = [(rows, columns, products)], len(rows)

    def _raise_floor(self, rows: Rows, products: Scores) -> None:
        """Find the k-th bound of every row by one sort: (row, bound) is one integer."""
        listed_rows, _ = np.nonzero(self.listed > -np.inf)
        bounds = np.concatenate([self._error.scores(products), self.listed[self.listed > -np.inf]])
        owners = np.concatenate([rows, listed_rows]).astype(np.uint64)
        ordered = np.sort(owners << np.uint64(32) | descending(bounds))
        counts = np.bincount(owners.astype(np.int64), minlength=len(self.listed))
        k, ends = self.listed.shape[1], np.cumsum(counts)
        full = np.flatnonzero(counts >= k)
        kth = ascending(ordered[(ends - counts)[full] + k - 1])
        self._floor[full] = np.maximum(self._floor[full], self._error.products(kth))


_NO_PRODUCTS = np.empty(0, np.uint16), np.empty(0, np.int64), np.empty(0, np.float32)


def in_rows(rows: Rows, count: int) -> tuple[Rows, Rows, Rows, int]:
    """Group ascending ``rows`` below ``count``.

    Returns:
        The distinct rows; for each element the index of its row among them, and its position within that row; the
        greatest number of elements of a row.
    """
    counts = np.bincount(rows, minlength=count)
    touched = np.flatnonzero(counts)
    starts = np.cumsum(counts) - counts
    line = np.repeat(np.arange(len(touched)), counts[touched])
    return touched, line, np.arange(len(rows)) - starts[rows], int(counts.max(initial=0))


def least_product(error: ErrorBound, min_score: np.float32) -> np.float32:
    """Smallest product of pairs that reach ``min_score``; finite, so that products of −inf are left out."""
    return np.float32(error.products(np.maximum(min_score, _MIN_SCORE)))
