"""Maximal marginal relevance: a list whose items also differ from each other."""

import numpy as np
from numpy.typing import NDArray

from recsys_spark.arrays.vectors import Matrix


def mmr_order(scores: NDArray[np.float32], vectors: Matrix, diversity: float, k: int) -> NDArray[np.int64]:
    """The first k places of one list of c candidates, by maximal marginal relevance.

    Again and again the candidate of greatest (1 − diversity)·score − diversity·(its greatest cosine to those taken);
    of equal ones the first. Carbonell and Goldstein, SIGIR 1998.

    Args:
        scores: (c,) in the order of the list.
        vectors: (c, d) unit vectors.
        diversity: 0 keeps the order of the scores; 1 looks at the differences alone.
    """
    wide = vectors.astype(np.float64)
    cosines = wide @ wide.T
    value, nearest = (1 - diversity) * scores.astype(np.float64), np.full(len(scores), -np.inf)
    taken: list[int] = []
    left = np.ones(len(scores), bool)
    for _ in range(min(k, len(scores))):
        penalty = diversity * nearest if taken else 0.0
        best = int(np.where(left, value - penalty, -np.inf).argmax())
        taken.append(best)
        left[best] = False
        nearest = np.maximum(nearest, cosines[best])
    return np.array(taken, np.int64)
