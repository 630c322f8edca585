"""Random numbers that are functions of a hash: the same for any partitioning, order of rows, or retry."""

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.integer]

_GOLDEN = 0x9E3779B97F4A7C15

_MASK = (1 << 64) - 1


def streams(hashes: Hashes, seed: int = 0) -> NDArray[np.uint64]:
    """(U,) the start of one stream of random numbers for each of the 64-bit ``hashes``, signed or not."""
    return _mixed(hashes.astype(np.uint64) + _mixed(np.array([seed & _MASK], np.uint64)))


def uniform(starts: NDArray[np.uint64], number: int) -> NDArray[np.float64]:
    """(U,) the random number in [0, 1) at position ``number`` of each stream, by SplitMix64 (Steele et al., OOPSLA
    2014). Any position is computed directly, without those before it."""
    bits = _mixed(starts + np.uint64((number + 1) * _GOLDEN & _MASK))
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64, which relies on the wrap-around of unsigned integers."""
    numbers = (numbers ^ numbers >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ numbers >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return numbers ^ numbers >> np.uint64(31)
