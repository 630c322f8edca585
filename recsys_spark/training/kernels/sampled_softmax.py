"""Candidates of a softmax over a catalogue: all items, or a sample with its logQ correction. Imports torch."""

import numpy as np
import torch
from numpy.typing import NDArray

MAX_CANDIDATES = 20_000
"""Above this catalogue size the softmax is sampled: this many uniformly sampled items, and the targets of the batch."""


def softmax_candidates(items: int, targets: NDArray[np.int64], seed: tuple[int, ...]) -> NDArray[np.int64]:
    """Ascending numbers of the items that the softmax runs over.

    Args:
        items: number of items of the catalogue.
        targets: items of the batch's targets, which are always candidates.
        seed: of the sample.
    """
    if items <= MAX_CANDIDATES:
        return np.arange(items)
    return np.union1d(np.random.default_rng(seed).choice(items, MAX_CANDIDATES, replace=False), targets)


def log_q(candidates: NDArray[np.int64], target_counts: NDArray[np.int64], batch: int) -> torch.Tensor | None:
    """(c,) ln of the probability that an item is a candidate, sampled or as a target of the batch; None: all are.

    It is subtracted from the scores, so that a popular item is not pushed away only because it is a candidate often
    (Yi et al., RecSys 2019).

    Args:
        candidates: (c,) items of ``softmax_candidates``.
        target_counts: (n,) number of examples with each item as the target.
        batch: number of targets of a batch.
    """
    size = len(target_counts)
    if len(candidates) == size:
        return None
    target_share = target_counts[candidates] / max(target_counts.sum(), 1)
    return torch.from_numpy(np.log(1 - (1 - MAX_CANDIDATES / size) * (1 - target_share) ** batch)).float()
