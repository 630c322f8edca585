"""Contrastive next-item loss (InfoNCE) with logQ correction, and its training examples. Imports torch."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from recsys_spark.tune.kernels.next_item_eval import Histories

MAX_CONTEXT = 50
"""Maximum number of context events on each side of a target."""

Rows = NDArray[np.int64]


def softmax_loss(
    scores: torch.Tensor,
    target: torch.Tensor,
    log_q: torch.Tensor | None = None,
    masked: torch.Tensor | None = None,
) -> torch.Tensor:
    """−mean ln P(target) of a softmax over candidates, a scalar.

    Args:
        scores: (b, c) similarity / temperature.
        target: (b,) column of the positive of each anchor.
        log_q: (c,) ln of the probability that a candidate is sampled. It is subtracted from the scores, so that a
            popular item is not pushed away only because it is sampled often (Yi et al., RecSys 2019). None: the
            candidates are the whole catalogue.
        masked: (b, c) candidates left out of the softmax, such as other positives of the user. The target is never
            left out.
    """
    if log_q is not None:
        scores = scores - log_q
    if masked is not None:
        rows = torch.arange(len(scores), device=scores.device)
        masked = masked.clone()
        masked[rows, target] = False
        scores = scores.masked_fill(masked, float("-inf"))
    return functional.cross_entropy(scores, target)


@dataclass(frozen=True, eq=False)
class Examples:
    """Training examples: ``target`` (n,) items and ``user`` (n,) rows of their users.

    The context is looked up on demand, so that each history is held once: example i has the events ``first[i]`` to
    ``last[i]`` of ``items``, without the target's own event ``position[i]``.
    """

    target: Rows
    user: Rows
    position: Rows
    first: Rows
    last: Rows
    items: Rows
    decay: float

    def contexts(self, rows: Rows) -> tuple[Rows, Rows, NDArray[np.float32]]:
        """Flat (index into ``rows``, context item, weight) of the examples in ``rows``."""
        first, sizes = self.first[rows], self.last[rows] - self.first[rows]
        owner = np.repeat(np.arange(len(rows)), sizes)
        event = np.arange(len(owner)) + np.repeat(first - np.cumsum(sizes) + sizes, sizes)
        distance = np.abs(event - self.position[rows][owner])
        is_context = distance > 0
        weights = self.decay ** (distance[is_context] - 1)
        return owner[is_context], self.items[event[is_context]], weights.astype(np.float32)


def build_examples(histories: Histories, decay: float, *, both_sides: bool) -> Examples:
    """One example per event: the event is the target, the events around it are the context of its anchor.

    The context is the events before the target, with ``both_sides`` also those after it, which teaches more per user.
    A context event weighs ``decay`` to the number of events between it and the target. A user's only event gives no
    example.
    """
    position = np.arange(len(histories.items))
    starts = np.flatnonzero(np.diff(histories.owner, prepend=-1))
    sizes = np.diff(np.r_[starts, len(position)])
    first = np.maximum(np.repeat(starts, sizes), position - MAX_CONTEXT)
    last = np.minimum(np.repeat(starts + sizes, sizes), position + MAX_CONTEXT + 1) if both_sides else position
    used = np.flatnonzero(last - first > both_sides)  # both sides: the range includes the target itself
    return Examples(
        histories.items[used], histories.owner[used], position[used], first[used], last[used], histories.items, decay
    )


def pool_anchors(
    vectors: torch.Tensor, owner: Rows, context: Rows, weight: NDArray[np.float32], size: int
) -> torch.Tensor:
    """(size, d) unit-length anchors: Σ weight · vector over the context of each."""
    owners, items, weights = (torch.from_numpy(part).to(vectors.device) for part in (owner, context, weight))
    sums = torch.zeros(size, vectors.shape[1], device=vectors.device)
    return functional.normalize(sums.index_add(0, owners, vectors[items] * weights[:, None]), dim=1)


def user_items(histories: Histories, users: Rows) -> tuple[Rows, Rows]:
    """Flat (index into ``users``, item) of all events of the users."""
    first, last = (np.searchsorted(histories.owner, users, side=side) for side in ("left", "right"))
    sizes = last - first
    owner = np.repeat(np.arange(len(users)), sizes)
    return owner, histories.items[np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + first[owner]]


def positives_mask(owner: Rows, columns: Rows, shape: tuple[int, int]) -> torch.Tensor:
    """(b, c) True where a candidate is an item of the anchor's user: it is a positive too, not a negative."""
    masked = torch.zeros(shape, dtype=torch.bool)
    masked[torch.from_numpy(owner), torch.from_numpy(columns)] = True
    return masked
