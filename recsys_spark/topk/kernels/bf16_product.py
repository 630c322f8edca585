"""The product of two tiles in bfloat16 on the CPU: twice as fast where the processor has instructions for it. It only
shortlists, with a bound on what rounding may have cost, so lists are those of float32. Imports torch.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from recsys_spark.topk.kernels.shortlist import ErrorBound, Pairs, Rows, Scores, TileProduct, tile_buffer
from recsys_spark.topk.kernels.tiles import BF16_TILES

# Blocks are mapped read-only, and nothing here writes to them.
warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)

Bits = NDArray[np.int16]
"""bfloat16, as NumPy has no name for it: the upper half of a float32."""

_ROW_STEP, _COLUMN_STEP = 128, 32

_ROWS_AT_ONCE = 1024  # what fits in the cache of a core

_MINUS_INFINITY = np.uint16(0xFF80).view(np.int16)

_HELD: list[tuple[Scores, torch.Tensor]] = []  # the queries of a tile meet many items one after the other


def bf16_product(threads: int) -> TileProduct:
    """For tasks with so many cores."""
    torch.set_num_threads(threads)

    @torch.inference_mode()
    def product(
        queries: Scores, items: Scores, floor: Scores, least: np.float32, excluded: Pairs, k: int, error: ErrorBound
    ) -> tuple[Rows, Rows, Scores]:
        if not _HELD or _HELD[0][0] is not queries:
            _HELD[:] = [(queries, _rounded("queries", queries, _ROW_STEP))]
        left, right = _HELD[0][1], _rounded("items", items, _COLUMN_STEP)
        out = _bf16_buffer("product", len(left), len(right))
        torch.mm(left, right.T, out=out)
        bits = out.view(torch.int16).numpy()[: len(queries), : len(items)]
        bits[excluded] = _MINUS_INFINITY
        without = np.flatnonzero(np.isneginf(floor))
        if 0 < k < len(items) and len(without):
            place = len(items) - k
            floor[without] = error.rival(np.partition(floats(bits[without]), place, axis=1)[:, place])
        bounds = at_least(np.maximum(floor, least))
        values = bits if (bounds >= 0).all() else ordered(bits)
        above = tile_buffer("above", bits.shape, np.bool_)
        np.greater_equal(values, ordered(bounds)[:, None], out=above)
        rows, columns = np.divmod(np.flatnonzero(above), len(items))
        return rows, columns, floats(bits[rows, columns])

    return TileProduct(product, BF16_TILES.rows, BF16_TILES.columns, bf16_error_bound)


def _rounded(name: str, vectors: Scores, step: int) -> torch.Tensor:
    """In bfloat16, with rows of any content up to a multiple of ``step``: the library prepares a product of each shape
    anew, which takes longer than a small product."""
    short = _bf16_buffer(name, -(-len(vectors) // step) * step, vectors.shape[1])
    short[: len(vectors)].copy_(torch.from_numpy(vectors))
    return short


def _bf16_buffer(name: str, rows: int, columns: int) -> torch.Tensor:
    return torch.from_numpy(tile_buffer(name, (rows, columns), np.int16)).view(torch.bfloat16)


@dataclass(frozen=True)
class Bf16ErrorBound(ErrorBound):
    """Of products that are rounded to the nearest bfloat16 at last, which keeps their order: before that, they were off
    by no more than ``absolute``."""

    def scores(self, products: Scores) -> Scores:
        """From midway between a product and the number below it."""
        bits = products.view(np.uint32)
        half = np.where(bits >> np.uint32(31), np.uint32(0x8000), np.uint32(-0x8000 & 0xFFFFFFFF))
        return np.where((products == 0) | np.isinf(products), products, (bits + half).view(np.float32)) - self.absolute

    def products(self, scores: Scores) -> Scores:
        """As the product would have been rounded."""
        return rounded(scores - self.absolute)


def bf16_error_bound(queries: Scores, items: Scores) -> Bf16ErrorBound:
    """How far a product may be from the exact score.

    With q = q' + e and x = x' + f, the rounded vectors and what rounding took: |q·x − q'·x'| ≤ |e||x| + |q'||f|. The
    sum in float32 is off by γ·|q'||x'| at most (as ``product_error``).
    """
    (q, lost), (x, dropped) = _lengths(queries), _lengths(items)
    gamma, short = (items.shape[1] + 2) * 2.0**-24 * 1.01, (q + lost) * (x + dropped)
    return Bf16ErrorBound(np.float32(1.01 * (lost * x + (q + lost) * dropped + gamma * (short + q * x))))


def _lengths(vectors: Scores) -> tuple[float, float]:
    """The greatest length of a vector, and of what rounding takes from one."""
    lengths = (0.0, 0.0)
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        exact = torch.from_numpy(vectors[start : start + _ROWS_AT_ONCE])
        taken = exact.bfloat16().float().sub_(exact)
        own, lost = (float(torch.linalg.vector_norm(part, dim=1).max()) for part in (exact, taken))
        lengths = max(lengths[0], own), max(lengths[1], lost)
    return lengths


def rounded(values: Scores) -> Scores:
    """To the nearest bfloat16, as it is done by the processor: ties to even."""
    return torch.from_numpy(np.atleast_1d(values)).bfloat16().float().numpy().reshape(np.shape(values))


def floats(bits: Bits) -> Scores:
    """The numbers, exactly."""
    return (bits.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)


def at_least(values: Scores) -> Bits:
    """The least bfloat16 that is not below each number."""
    bits = np.where(values == 0, np.float32(-0.0), values).view(np.uint32)  # -0 is not below 0
    up = np.where(bits >> np.uint32(31), bits, bits + np.uint32(0xFFFF))  # a negative number cut short is a greater one
    return (up >> np.uint32(16)).astype(np.uint16).view(np.int16)


def ordered(bits: Bits) -> Bits:
    """Integers in the order of the numbers; those of positive numbers are their bits."""
    return bits ^ ((bits >> np.int16(15)) & np.int16(0x7FFF))
