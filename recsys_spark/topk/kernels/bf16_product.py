"""Product of two tiles in bfloat16 on the CPU: twice as fast as float32 if the CPU has instructions for it.

The product only shortlists, with a bound on its rounding error, so the lists equal those of float32. Imports torch.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from recsys_spark.topk.kernels.routes import Excluded, Rows
from recsys_spark.topk.kernels.shortlist import ErrorBound, Scores, TileProduct, tile_buffer
from recsys_spark.topk.kernels.tiles import BF16_TILES

# Blocks are mapped read-only. Torch warns of that, but nothing here writes to them.
warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)

Bits = NDArray[np.int16]
"""bfloat16 as the upper half of a float32: NumPy has no such type."""

_ROW_STEP, _COLUMN_STEP = 128, 32

_ROWS_AT_ONCE = 1024  # fits in the cache of a core

_MINUS_INFINITY = np.uint16(0xFF80).view(np.int16)

_HELD: list[tuple[Scores, torch.Tensor]] = []  # the same queries are multiplied with many tiles of items


def bf16_product(threads: int) -> TileProduct:
    """Multiply in bfloat16 with ``threads`` threads, the cores of the task."""
    torch.set_num_threads(threads)

    @torch.inference_mode()
    def raw(queries: Scores, items: Scores) -> NDArray[np.uint16]:
        if not _HELD or _HELD[0][0] is not queries:
            _HELD[:] = [(queries, _padded("queries", queries, _ROW_STEP))]
        short_queries, short_items = _HELD[0][1], _padded("items", items, _COLUMN_STEP)
        products = _bf16_buffer("product", len(short_queries), len(short_items))
        torch.mm(short_queries, short_items.T, out=products)
        return products.view(torch.int16).numpy().view(np.uint16)

    def multiply(
        queries: Scores,
        items: Scores,
        floor: Scores,
        min_product: np.float32,
        excluded: Excluded,
        k: int,
        error: ErrorBound,
    ) -> tuple[Rows, Rows, Scores]:
        bits = raw(queries, items).view(np.int16)[: len(queries), : len(items)]
        bits[excluded] = _MINUS_INFINITY
        unbounded = np.flatnonzero(np.isneginf(floor))
        if 0 < k < len(items) and len(unbounded):
            kth = len(items) - k
            floor[unbounded] = error.rival(np.partition(floats(bits[unbounded]), kth, axis=1)[:, kth])
        bounds = round_up(np.maximum(floor, min_product))
        values = bits if (bounds >= 0).all() else ordered(bits)
        above = tile_buffer("above", bits.shape, np.bool_)
        np.greater_equal(values, ordered(bounds)[:, None], out=above)
        rows, columns = np.divmod(np.flatnonzero(above), len(items))
        return rows, columns, floats(bits[rows, columns])

    return TileProduct(multiply, BF16_TILES.rows, BF16_TILES.columns, bf16_error_bound, raw)


def _padded(name: str, vectors: Scores, step: int) -> torch.Tensor:
    """Vectors in bfloat16, padded with arbitrary rows to a multiple of ``step``.

    Padding keeps the number of shapes small: the library prepares the product of every new shape, which takes longer
    than a small product.
    """
    short = _bf16_buffer(name, -(-len(vectors) // step) * step, vectors.shape[1])
    short[: len(vectors)].copy_(torch.from_numpy(vectors))
    return short


def _bf16_buffer(name: str, rows: int, columns: int) -> torch.Tensor:
    return torch.from_numpy(tile_buffer(name, (rows, columns), np.int16)).view(torch.bfloat16)


@dataclass(frozen=True)
class Bf16ErrorBound(ErrorBound):
    """Error bound of products whose last step rounds to the nearest bfloat16, which keeps their order.

    Before that step, a product differs from the exact score by at most ``absolute``.
    """

    short = True

    def scores(self, products: Scores) -> Scores:
        """Smallest exact score: midway between the product and the next smaller bfloat16, less ``absolute``."""
        bits = products.view(np.uint32)
        half = np.where(bits >> np.uint32(31), np.uint32(0x8000), np.uint32(-0x8000 & 0xFFFFFFFF))
        return np.where((products == 0) | np.isinf(products), products, (bits + half).view(np.float32)) - self.absolute

    def products(self, scores: Scores) -> Scores:
        """Smallest product, rounded as the product itself is."""
        return rounded(scores - self.absolute)


def bf16_error_bound(queries: Scores, items: Scores) -> Bf16ErrorBound:
    """Bound the distance of a product from the exact score.

    With q = q' + e and x = x' + f, where q', x' are the rounded vectors: |q·x − q'·x'| ≤ |e||x| + |q'||f|. The sum in
    float32 adds at most γ·|q'||x'| (see ``product_error_bound``).
    """
    (q, e), (x, f) = _lengths(queries), _lengths(items)
    gamma, short = (items.shape[1] + 2) * 2.0**-24 * 1.01, (q + e) * (x + f)
    return Bf16ErrorBound(np.float32(1.01 * (e * x + (q + e) * f + gamma * (short + q * x))))


def _lengths(vectors: Scores) -> tuple[float, float]:
    """Greatest length of a vector, and of its rounding error."""
    lengths = (0.0, 0.0)
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        exact = torch.from_numpy(vectors[start : start + _ROWS_AT_ONCE])
        errors = exact.bfloat16().float().sub_(exact)
        length, error = (float(torch.linalg.vector_norm(part, dim=1).max()) for part in (exact, errors))
        lengths = max(lengths[0], length), max(lengths[1], error)
    return lengths


def rounded(values: Scores) -> Scores:
    """Values rounded to the nearest bfloat16 as the CPU does it: ties to even."""
    return torch.from_numpy(np.atleast_1d(values)).bfloat16().float().numpy().reshape(np.shape(values))


def floats(bits: Bits) -> Scores:
    """bfloat16 as float32, exactly."""
    return (bits.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)


def round_up(values: Scores) -> Bits:
    """Smallest bfloat16 that is not below each value."""
    bits = np.where(values == 0, np.float32(-0.0), values).view(np.uint32)  # -0 is not below 0
    up = np.where(bits >> np.uint32(31), bits, bits + np.uint32(0xFFFF))  # truncation raises negative numbers
    return (up >> np.uint32(16)).astype(np.uint16).view(np.int16)


def ordered(bits: Bits) -> Bits:
    """bfloat16 as integers that have the order of the numbers; positive numbers are their bits."""
    return bits ^ ((bits >> np.int16(15)) & np.int16(0x7FFF))
