"""Several interests of one user: the items of a history in a few groups of like direction."""

import numpy as np
from numpy.typing import NDArray

from recsys_spark.arrays.vectors import Matrix, unit_rows

CLUSTERED = 200
"""Items of a history that are grouped, the heaviest: what others count belongs to every interest."""

_ITEMS_EACH = 10

_ROUNDS = 10


def interests_of(vectors: Matrix, weights: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """(n,) the interest of each item, from 0; −1 for what belongs to all: items of no positive weight, those beyond the
    heaviest, and all where there are too few for two interests.

    Weighted spherical k-means with at most ``most`` groups, one for every ten items. It starts at the heaviest item,
    then each time at the one that is heaviest and farthest from those before; of equals the first. Without chance.

    Args:
        vectors: (n, d) unit rows.
        weights: what each counts.
        most: interests.
    """
    labels = np.full(len(weights), -1)
    some = np.sort(np.argsort(-weights, kind="stable")[:CLUSTERED])
    some = some[weights[some] > 0]
    groups = min(most, len(some) // _ITEMS_EACH)
    if groups < 2:
        return labels
    wide, heavy = vectors[some].astype(np.float64), weights[some]
    centers = _starts(wide, heavy, groups)
    own = np.argmax(wide @ centers.T, axis=1)
    for _ in range(_ROUNDS):
        sums = np.stack([heavy[own == group] @ wide[own == group] for group in range(groups)])
        centers = unit_rows(sums).astype(np.float64)
        found = np.argmax(wide @ centers.T, axis=1)
        if (found == own).all():
            break
        own = found
    labels[some] = np.unique(own, return_inverse=True)[1]  # a group may have lost all its items
    return labels


def weights_of(labels: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(interests, n) what each item counts in each interest: nothing where it belongs to another one."""
    count = max(labels.max(initial=-1) + 1, 1)
    return np.stack([np.where((labels < 0) | (labels == label), weights, 0.0) for label in range(count)])


def _starts(wide: NDArray[np.float64], heavy: NDArray[np.float64], groups: int) -> NDArray[np.float64]:
    chosen = [int(np.argmax(heavy))]
    nearest = wide @ wide[chosen[0]]
    while len(chosen) < groups:
        chosen.append(int(np.argmax(heavy * (1 - nearest))))
        nearest = np.maximum(nearest, wide @ wide[chosen[-1]])
    return wide[chosen]
