"""Weights of a history by the number of newer baskets."""

import numpy as np
from numpy.typing import NDArray

from recsys_spark.ranking.kernels.code_lists import Rows

_HALF_LIFE = 3.0
"""Newer baskets after which a weight has halved, as of the scorer ``hybrid`` with events."""


def recency(owners: Rows, ages: NDArray[np.float32]) -> NDArray[np.float64]:
    """(E,) 2^(−n / 3), with n the number of distinct times of the user that are newer than an entry.

    Items of one time are one basket: they count alike, and a large basket does not outweigh the ones before it.

    Args:
        owners: (E,) row of the user of each entry.
        ages: (E,) in days; infinite where it is not known.
    """
    order = np.lexsort((ages, owners))
    users, sorted_ages = owners[order], ages[order]
    begins = np.r_[True, users[1:] != users[:-1]][: len(users)]
    older = np.r_[False, sorted_ages[1:] != sorted_ages[:-1]][: len(users)] & ~begins
    count = np.cumsum(older)
    newer = np.empty(len(users), np.int64)
    newer[order] = count - np.maximum.accumulate(np.where(begins, count, 0))
    return np.exp2(-newer / _HALF_LIFE)
