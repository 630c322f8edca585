"""The product of two tiles in bfloat16 on the CPU: twice as fast where the processor has instructions for it. It only
shortlists, with a bound on what rounding may have cost, so lists are those of float32. Imports torch.
"""

import warnings

import numpy as np
import torch
from numpy.typing import NDArray

from recsys_spark.kernels.processor import BF16_TILES
from recsys_spark.kernels.shortlist import Multiplier, Pairs, Rows, Scores, tile_buffer

# Blocks are mapped read-only, and nothing here writes to them.
warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)

Bits = NDArray[np.int16]
"""bfloat16, as NumPy has no name for it: the upper half of a float32."""

_UNIT = 2.0**-8
_ROWS_AT_ONCE = 4096  # copies of a whole block would count in a task's memory
_MINUS_INFINITY = np.uint16(0xFF80).view(np.int16)


def bf16_multiplier(threads: int) -> Multiplier:
    """For tasks with so many cores."""
    torch.set_num_threads(threads)
    held: list[tuple[Scores, torch.Tensor]] = []  # the queries of a tile meet many items one after the other

    def rounded(queries: Scores) -> torch.Tensor:
        if not held or held[0][0] is not queries:
            held[:] = [(queries, torch.from_numpy(queries).bfloat16())]
        return held[0][1]

    @torch.inference_mode()
    def product(
        queries: Scores, items: Scores, floor: Scores, least: np.float32, excluded: Pairs, k: int, slack: np.float32
    ) -> tuple[Rows, Rows, Scores]:
        shape = len(queries), len(items)
        bits, above = tile_buffer("bf16", shape, np.int16), tile_buffer("above", shape, np.bool_)
        out = torch.from_numpy(bits).view(torch.bfloat16)
        torch.mm(rounded(queries), torch.from_numpy(items).bfloat16().T, out=out)
        bits[excluded] = _MINUS_INFINITY
        without = np.flatnonzero(np.isneginf(floor))
        if 0 < k < shape[1] and len(without):
            floor[without] = np.partition(floats(bits[without]), shape[1] - k, axis=1)[:, shape[1] - k] - slack
        bounds = at_least(np.maximum(floor, least))
        values = bits if (bounds >= 0).all() else ordered(bits)
        np.greater_equal(values, ordered(bounds)[:, None], out=above)
        flat = np.flatnonzero(above)
        rows, columns = np.divmod(flat, shape[1])
        return rows, columns, floats(bits.ravel()[flat])

    return Multiplier(product, BF16_TILES.rows, BF16_TILES.columns, bf16_error)


def bf16_error(queries: Scores, items: Scores) -> np.float32:
    """How far a product may be from the exact score.

    With q = q' + e and x = x' + f, the rounded vectors and what rounding took: |q·x − q'·x'| ≤ |e||x| + |q'||f|. The
    sum in float32 is off by γ·|q'||x'| at most (as ``product_error``), and its rounding to bfloat16 by 2⁻⁸ of itself.
    """
    (q, q_short, lost), (x, x_short, dropped) = _lengths(queries), _lengths(items)
    gamma = (items.shape[1] + 2) * 2.0**-24 * 1.01
    return np.float32(1.01 * (lost * x + q_short * dropped + (gamma + _UNIT) * q_short * x_short + gamma * q * x))


def _lengths(vectors: Scores) -> tuple[float, float, float]:
    """The greatest length of a vector, of its rounded one, and of their difference."""
    lengths = [0.0, 0.0, 0.0]
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        exact = torch.from_numpy(vectors[start : start + _ROWS_AT_ONCE])
        short = exact.bfloat16().float()
        parts = (exact, short, exact - short)
        lengths = [max(length, float(part.norm(dim=1).max())) for length, part in zip(lengths, parts, strict=True)]
    return lengths[0], lengths[1], lengths[2]


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
