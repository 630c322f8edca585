"""Maximal marginal relevance: order candidates by score and by difference from each other."""

import numpy as np
from numpy.typing import NDArray

from recsys_spark.arrays.vectors import Matrix


def mmr_order(scores: NDArray[np.float32], vectors: Matrix, diversity: float, k: int) -> NDArray[np.int64]:
    """Choose at most k of c candidates by maximal marginal relevance, and return their positions in that order.

    Each step chooses the candidate of greatest (1 − diversity)·score − diversity·(its greatest cosine to the chosen
    ones); of equal ones the first. Carbonell and Goldstein, SIGIR 1998.

    Args:
        scores: (c,) in the order of the list.
        vectors: (c, d) unit vectors.
        diversity: 0 keeps the order of the scores; 1 ignores the scores.
        k: length of the list.
    """
    wide = vectors.astype(np.float64)
    cosines = wide @ wide.T
    value, nearest = (1 - diversity) * scores.astype(np.float64), np.full(len(scores), -np.inf)
    chosen: list[int] = []
    remaining = np.ones(len(scores), bool)
    for _ in range(min(k, len(scores))):
        penalty = diversity * nearest if chosen else 0.0
        best = int(np.where(remaining, value - penalty, -np.inf).argmax())
        chosen.append(best)
        remaining[best] = False
        nearest = np.maximum(nearest, cosines[best])
    return np.array(chosen, np.int64)
