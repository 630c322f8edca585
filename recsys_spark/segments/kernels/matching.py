"""Ids of segments: small ones merged, the others matched with those of the last run."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Ints = NDArray[np.int64]


def merged_segments(counts: Sequence[int], centroids: NDArray[np.floating], least: int) -> Ints:
    """(k,) the segment that each one belongs to after merging: the smallest of fewer than ``least`` users joins the
    remaining segment of the nearest centroid, until none is smaller or one remains.

    Args:
        counts: users of each segment; may be 0.
        centroids: (k, d) unit vectors.
        least: number of users.
    """
    users, target = np.array(counts, np.int64), np.arange(len(counts))
    cosines = centroids @ centroids.T
    remaining = list(range(len(counts)))
    while len(remaining) > 1 and users[remaining].min() < least:
        small = min(remaining, key=lambda one: (users[one], one))
        remaining.remove(small)
        nearest = max(remaining, key=lambda one: (cosines[small, one], -one))
        users[nearest] += users[small]
        target[target == small] = nearest
    return target


def matched_ids(overlap: Ints, ids: Sequence[int], first_free: int) -> Ints:
    """(new,) the id of each new segment: that of the old one it is matched with, or a new one from ``first_free`` on.

    Matched are the pairs with the most users in common in total (Kuhn, The Hungarian Method, 1955); a pair without
    common users is none.

    Args:
        overlap: (old, new) users in common.
        ids: (old,) ids of the old segments.
        first_free: the first id that was never given.
    """
    matched = np.full(overlap.shape[1], -1, np.int64)
    for old, new in zip(*linear_sum_assignment(-overlap), strict=True):
        if overlap[old, new]:
            matched[new] = ids[old]
    unmatched = matched < 0
    matched[unmatched] = first_free + np.arange(unmatched.sum())
    return matched
