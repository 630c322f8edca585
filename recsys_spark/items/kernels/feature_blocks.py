"""Feature blocks of unit length: hashed names, prices, projected users; and their concatenation."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recsys_spark.arrays.vectors import Matrix, unit_rows


def hashed_block(names: Sequence[Sequence[str] | None], dimension: int, salt: str) -> Matrix:
    """(n, dimension): the sum of the fixed pseudo-random sign vectors of a row's names, at unit length.

    The cosine of two rows is about that of their name sets; different names are nearly orthogonal (standard deviation
    ``dimension ** -0.5``). A row without names is zero and has cosine 0 to all rows, to other zero rows too. Feature
    hashing: Weinberger et al., ICML 2009.
    """
    distinct = sorted({name for row in names if row for name in row})
    signs = {name: _signs(f"{salt}:{name}", dimension) for name in distinct}
    zero = np.zeros(dimension)
    return unit_rows(np.array([sum((signs[n] for n in sorted(set(row))), zero) if row else zero for row in names]))


def price_block(prices: NDArray[np.float64], cuts: NDArray[np.float64]) -> Matrix:
    """(n, 2): the quantile of a price among ``cuts`` as an angle in a quarter circle, so that near prices are similar.

    Prices at opposite ends of the cuts have cosine 0.

    Args:
        prices: (n,); NaN, for no price, gives a row of zeros.
        cuts: (m,), or (n, m) for cuts by row. Those that are not finite are left out; fewer than two give zeros.
    """
    usable = np.isfinite(cuts)
    number = usable.sum(axis=-1)
    has_quantile = np.isfinite(prices) & (number > 1)
    low, high = ((usable & side).sum(axis=1) for side in (cuts < prices[:, None], cuts <= prices[:, None]))
    angle = (low + high) / (2 * np.maximum(number, 1)) * (np.pi / 2)
    return np.where(has_quantile[:, None], np.stack([np.cos(angle), np.sin(angle)], axis=1), 0.0).astype(np.float32)


def projected_block(
    starts: NDArray[np.int64], codes: NDArray[np.int64], units: NDArray[np.int64], dimension: int
) -> Matrix:
    """(n, dimension): rows of a sparse matrix with a column per code, projected by random signs, at unit length.

    Row r is Σ units · signs(code) over the entries from ``starts[r]`` to ``starts[r + 1]``; a row without entries is
    zero. Cosines are preserved approximately (standard deviation ``dimension ** -0.5``). Integers have the same sum in
    any order. Signs are bits of splitmix64 (Steele et al., OOPSLA 2014) of the code, so no random matrix is stored.
    """
    words, sums = -(-dimension // 64), np.zeros((len(starts) - 1, dimension), np.int64)
    shifts, rows = np.arange(64, dtype=np.uint64), np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    for first in range(0, len(codes), 65_536):  # bounds the memory for signs
        part = slice(first, first + 65_536)
        mixed = np.stack([_mixed(codes[part].view(np.uint64), word) for word in range(words)], axis=1)
        bits = (mixed[:, :, None] >> shifts & np.uint64(1)).reshape(len(mixed), -1)[:, :dimension]
        owners, borders = np.unique(rows[part], return_index=True)
        sums[owners] += np.add.reduceat((2 * bits.astype(np.int64) - 1) * units[part, None], borders, axis=0)
    return unit_rows(sums.astype(np.float64))


def side_by_side(blocks: Mapping[str, Matrix], weights: Mapping[str, float]) -> Matrix:
    """(n, Σ d): unit blocks, each scaled by √weight, side by side; each row is then scaled to length 1.

    The dot product of two rows without empty blocks is the weighted mean of the cosines of the blocks.
    """
    scaled = [np.float32(np.sqrt(weights[name])) * block for name, block in blocks.items() if weights[name] > 0]
    return unit_rows(np.concatenate(scaled, axis=1))


def _mixed(codes: NDArray[np.uint64], word: int) -> NDArray[np.uint64]:
    """64 bits of each code, which differ for every ``word``."""
    z = codes + np.uint64((0x9E3779B97F4A7C15 * (word + 1)) % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _signs(name: str, dimension: int) -> NDArray[np.float64]:
    seed = int.from_bytes(hashlib.sha256(name.encode("utf-8", "replace")).digest()[:8], "little")
    return np.random.Generator(np.random.PCG64(seed)).integers(0, 2, dimension).astype(np.float64) * 2 - 1
