"""Limit the items of one group in a list to a quota.

The list under a quota is the best k of the union of each group's best ``quota`` items. Neither cut drops an item that
belongs to the list of a larger catalogue, so lists may be built block by block.
"""

import numpy as np
from numpy.typing import NDArray

Groups = NDArray[np.int64]
"""Group of each item; a negative group has no quota."""


def within_quota(
    entries: NDArray[np.uint64], groups: Groups, quota: int, empty: np.uint64
) -> tuple[NDArray[np.uint64], Groups]:
    """Sort (n, w) entries and their groups along the rows; entries beyond the quota become ``empty``."""
    order = np.argsort(entries, axis=1)
    entries, groups = np.take_along_axis(entries, order, axis=1), np.take_along_axis(groups, order, axis=1)
    entries[(groups >= 0) & (_rank_in_group(groups) >= quota)] = empty
    groups[entries == empty] = -1
    order = np.argsort(entries, axis=1, kind="stable")
    return np.take_along_axis(entries, order, axis=1), np.take_along_axis(groups, order, axis=1)


def over_quota(
    rows: NDArray[np.integer],
    groups: Groups,
    max_scores: NDArray[np.float32],
    listed_groups: Groups,
    listed: NDArray[np.float32],
    quota: int,
) -> NDArray[np.bool_]:
    """Candidates that cannot enter a list, because their group fills its quota there with greater scores.

    Args:
        rows, groups, max_scores: (c,) the list, the group and the greatest possible score of each candidate.
        listed_groups, listed: (n, k) groups and scores of the lists, scores descending.
        quota: maximum number of items of one group in a list.

    Returns:
        (c,) a mask.
    """
    last = (listed_groups >= 0) & (_rank_in_group(listed_groups) == quota - 1)
    full_rows, _ = np.nonzero(last)
    names, number = np.unique(np.concatenate([listed_groups[last], groups]), return_inverse=True)
    full = full_rows * len(names) + number[: len(full_rows)]
    if not len(full):
        return np.zeros(len(rows), bool)
    wanted = rows.astype(np.int64) * len(names) + number[len(full_rows) :]
    order = np.argsort(full)
    match = np.searchsorted(full[order], wanted).clip(max=len(full) - 1)
    return (full[order][match] == wanted) & (max_scores < listed[last][order][match]) & (groups >= 0)


def _rank_in_group(groups: Groups) -> NDArray[np.int64]:
    """(n, w): number of earlier entries of the row that have the same group."""
    order = np.argsort(groups, axis=1, kind="stable")
    ordered = np.take_along_axis(groups, order, axis=1)
    positions = np.broadcast_to(np.arange(groups.shape[1]), groups.shape)
    starts = np.where(np.diff(ordered, axis=1, prepend=ordered[:, :1] - 1) != 0, positions, 0)
    ranks = np.empty_like(groups)
    np.put_along_axis(ranks, order, positions - np.maximum.accumulate(starts, axis=1), axis=1)
    return ranks
