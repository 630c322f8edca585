"""Unit blocks side by side: category, brand and price next to the text embedding."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recsys_spark.arrays.vectors import Matrix, unit_rows


def hashed_block(names: Sequence[Sequence[str] | None], dimension: int, salt: str) -> Matrix:
    """(n, dimension): each name a fixed pseudo-random sign vector, a row the unit sum of its names.

    Two rows that share some of their names have about the cosine of their name sets; unrelated names are nearly
    orthogonal (standard deviation ``dimension ** -0.5``). Missing names give a row of zeros, which equals nothing,
    not even another missing one. Feature hashing: Weinberger et al., ICML 2009.
    """
    distinct = sorted({name for row in names if row for name in row})
    signs = {name: _signs(f"{salt}:{name}", dimension) for name in distinct}
    nothing = np.zeros(dimension)
    return unit_rows(
        np.array([sum((signs[n] for n in sorted(set(row))), nothing) if row else nothing for row in names])
    )


def price_block(prices: NDArray[np.float64], cuts: NDArray[np.float64]) -> Matrix:
    """(n, 2): the price's quantile among ``cuts`` as an angle in a quarter circle, so near prices are similar.

    ``cuts`` is (m,), or (n, m) where each row has its own. ``prices`` holds NaN where there is none, which gives a row
    of zeros. Cuts that are not finite are left out; fewer than two give zeros. Opposite ends of the cuts have cosine 0.
    """
    usable = np.isfinite(cuts)
    number = usable.sum(axis=-1)
    known = np.isfinite(prices) & (number > 1)
    low, high = ((usable & side).sum(axis=1) for side in (cuts < prices[:, None], cuts <= prices[:, None]))
    angle = (low + high) / (2 * np.maximum(number, 1)) * (np.pi / 2)
    return np.where(known[:, None], np.stack([np.cos(angle), np.sin(angle)], axis=1), 0.0).astype(np.float32)


def projected_block(
    starts: NDArray[np.int64], codes: NDArray[np.int64], units: NDArray[np.int64], dimension: int
) -> Matrix:
    """(n, dimension): rows of a matrix as wide as there are codes, projected by random signs, at unit length.

    Row r is Σ units · signs(code) over the entries from ``starts[r]`` to ``starts[r + 1]``; a row without entries is
    zeros. Cosines are kept about (standard deviation ``dimension ** -0.5``). Whole numbers add up to the same in any
    order; signs are bits of splitmix64 (Steele et al., OOPSLA 2014) of the code, so nothing is stored or drawn.
    """
    words, sums = -(-dimension // 64), np.zeros((len(starts) - 1, dimension), np.int64)
    shifts, rows = np.arange(64, dtype=np.uint64), np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    for first in range(0, len(codes), 65_536):  # bounds the signs
        part = slice(first, first + 65_536)
        mixed = np.stack([_mixed(codes[part].view(np.uint64), word) for word in range(words)], axis=1)
        bits = (mixed[:, :, None] >> shifts & np.uint64(1)).reshape(len(mixed), -1)[:, :dimension]
        owners, borders = np.unique(rows[part], return_index=True)
        sums[owners] += np.add.reduceat((2 * bits.astype(np.int64) - 1) * units[part, None], borders, axis=0)
    return unit_rows(sums.astype(np.float64))


def side_by_side(blocks: Mapping[str, Matrix], weights: Mapping[str, float]) -> Matrix:
    """(n, Σ d): unit blocks scaled by √weight and put side by side, then each row scaled to length 1.

    The dot product of two rows in which all blocks are present is the weighted mean of the block cosines.
    """
    scaled = [np.float32(np.sqrt(weights[name])) * block for name, block in blocks.items() if weights[name] > 0]
    return unit_rows(np.concatenate(scaled, axis=1))


def _mixed(codes: NDArray[np.uint64], word: int) -> NDArray[np.uint64]:
    """64 bits of each code, others for every ``word``."""
    z = codes + np.uint64((0x9E3779B97F4A7C15 * (word + 1)) % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _signs(name: str, dimension: int) -> NDArray[np.float64]:
    seed = int.from_bytes(hashlib.sha256(name.encode("utf-8", "replace")).digest()[:8], "little")
    return np.random.Generator(np.random.PCG64(seed)).integers(0, 2, dimension).astype(np.float64) * 2 - 1
