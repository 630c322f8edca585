"""At most so many items of one group in a list.

The list under a quota is the best k of the union of each group's best ``quota``. Both cuts keep what a larger catalogue
could still list, so lists may be built block by block.
"""

import numpy as np
from numpy.typing import NDArray

Groups = NDArray[np.int64]
"""A negative group has no quota."""


def within_quota(
    places: NDArray[np.uint64], groups: Groups, quota: int, empty: np.uint64
) -> tuple[NDArray[np.uint64], Groups]:
    """(n, w) places sorted along their rows, with their groups; beyond the quota a place is ``empty``."""
    order = np.argsort(places, axis=1)
    places, groups = np.take_along_axis(places, order, axis=1), np.take_along_axis(groups, order, axis=1)
    places[(groups >= 0) & (_rank_in_group(groups) >= quota)] = empty
    groups[places == empty] = -1
    order = np.argsort(places, axis=1, kind="stable")
    return np.take_along_axis(places, order, axis=1), np.take_along_axis(groups, order, axis=1)


def crowded_out(
    rows: NDArray[np.integer],
    groups: Groups,
    most: NDArray[np.float32],
    listed_groups: Groups,
    listed: NDArray[np.float32],
    quota: int,
) -> NDArray[np.bool_]:
    """Candidates of a group that fills its quota of a list with scores above ``most``, the greatest they may have.

    ``rows``, ``groups``, ``most``: (c,). ``listed_groups``, ``listed``: (n, k), scores descending.
    """
    last = (listed_groups >= 0) & (_rank_in_group(listed_groups) == quota - 1)
    full_rows, _ = np.nonzero(last)
    names, number = np.unique(np.concatenate([listed_groups[last], groups]), return_inverse=True)
    full = full_rows * len(names) + number[: len(full_rows)]
    asked = rows.astype(np.int64) * len(names) + number[len(full_rows) :]
    order = np.argsort(full)
    place = np.searchsorted(full[order], asked).clip(max=max(len(full) - 1, 0))
    if not len(full):
        return np.zeros(len(rows), bool)
    return (full[order][place] == asked) & (most < listed[last][order][place]) & (groups >= 0)


def _rank_in_group(groups: Groups) -> NDArray[np.int64]:
    """(n, w): how many of the same group stand before a place in its row."""
    order = np.argsort(groups, axis=1, kind="stable")
    ordered = np.take_along_axis(groups, order, axis=1)
    places = np.broadcast_to(np.arange(groups.shape[1]), groups.shape)
    starts = np.where(np.diff(ordered, axis=1, prepend=ordered[:, :1] - 1) != 0, places, 0)
    ranks = np.empty_like(groups)
    np.put_along_axis(ranks, order, places - np.maximum.accumulate(starts, axis=1), axis=1)
    return ranks
