"""Interests of a user: clusters of the items in the history."""

import numpy as np
from numpy.typing import NDArray

from recsys_spark.arrays.vectors import Matrix, unit_rows

CLUSTERED = 200
"""Number of items of a history that are clustered, those of greatest weight; the others belong to every interest."""

_ITEMS_EACH = 10

_ROUNDS = 10


def interests_of(vectors: Matrix, weights: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """(n,) the interest of each item, from 0; −1 for items of all interests.

    These are items without positive weight, items beyond the CLUSTERED heaviest ones, and all items if there are too
    few for two interests.

    Deterministic weighted spherical k-means with at most ``most`` clusters, one for every ten items. The first center
    is the heaviest item; each further one is the item with the greatest weight × (1 − greatest cosine to the centers
    so far). Of ties, the first item is taken.

    Args:
        vectors: (n, d) unit rows.
        weights: (n,) weight of each item.
        most: maximum number of interests.
    """
    labels = np.full(len(weights), -1)
    rows = np.sort(np.argsort(-weights, kind="stable")[:CLUSTERED])
    rows = rows[weights[rows] > 0]
    clusters = min(most, len(rows) // _ITEMS_EACH)
    if clusters < 2:
        return labels
    points, masses = vectors[rows].astype(np.float64), weights[rows]
    assigned = np.argmax(points @ _first_centers(points, masses, clusters).T, axis=1)
    for _ in range(_ROUNDS):
        sums = np.stack([masses[assigned == one] @ points[assigned == one] for one in range(clusters)])
        centers = unit_rows(sums).astype(np.float64)
        nearest = np.argmax(points @ centers.T, axis=1)
        if (nearest == assigned).all():
            break
        assigned = nearest
    labels[rows] = np.unique(assigned, return_inverse=True)[1]  # renumbered, since a cluster may be empty
    return labels


def weights_of(labels: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(interests, n) the weight of each item in each interest; 0 where it belongs to another one."""
    count = max(labels.max(initial=-1) + 1, 1)
    return np.stack([np.where((labels < 0) | (labels == label), weights, 0.0) for label in range(count)])


def _first_centers(points: NDArray[np.float64], masses: NDArray[np.float64], clusters: int) -> NDArray[np.float64]:
    chosen = [int(np.argmax(masses))]
    cosines = points @ points[chosen[0]]
    while len(chosen) < clusters:
        chosen.append(int(np.argmax(masses * (1 - cosines))))
        cosines = np.maximum(cosines, points @ points[chosen[-1]])
    return points[chosen]
