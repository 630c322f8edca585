"""Samples of candidates by hashes, so that batches and partitions do not change them."""

import numpy as np
from numpy.typing import NDArray

from recsys_spark.ranking.kernels.code_lists import Rows


def sampled(users: Rows, items: Rows, among: NDArray[np.bool_], most: int) -> NDArray[np.bool_]:
    """(C,) mask of ``most`` of the pairs ``among`` of every user, those of smallest hash.

    ``users``: codes, equal ones side by side. ``items``: codes.
    """
    hashes = _mixed(users.view(np.uint64) ^ _mixed(items.view(np.uint64)))
    hashes[~among] = np.iinfo(np.uint64).max
    groups = np.cumsum(np.r_[False, users[1:] != users[:-1]])
    order = np.lexsort((hashes, groups))
    places = np.arange(len(order)) - np.searchsorted(groups, groups[order])
    mask = np.zeros(len(users), bool)
    mask[order[places < most]] = True
    return mask & among


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
