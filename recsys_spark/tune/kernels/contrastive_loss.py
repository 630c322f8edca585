"""Pull what comes next to what came before: the loss, its corrections, and training examples. Imports torch."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from recsys_spark.tune.kernels.next_item_eval import Histories

MOST_CONTEXT = 50
"""Events around a target that are its anchor, at most."""

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
        target: (b,) the column of each anchor's positive.
        log_q: (c,) ln of the probability that a candidate was drawn with. It is subtracted: a popular item, which is
            drawn often, must not be pushed away for that (Yi et al., RecSys 2019). None: all candidates are there.
        masked: (b, c) candidates that are right as well, or known: they do not count. The target always does.
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
    """``target`` (n,) items, ``user`` (n,) rows of their users; the events around each are looked up when they are
    needed: those of example i lie at ``first[i]`` to ``last[i]`` in ``items``, without ``place[i]``, its own."""

    target: Rows
    user: Rows
    place: Rows
    first: Rows
    last: Rows
    items: Rows
    decay: float

    def of(self, rows: Rows) -> tuple[Rows, Rows, NDArray[np.float32]]:
        """(number of the row within ``rows``, context item, weight) of some examples, flat."""
        first, sizes = self.first[rows], self.last[rows] - self.first[rows]
        owner = np.repeat(np.arange(len(rows)), sizes)
        context = np.arange(len(owner)) + np.repeat(first - np.cumsum(sizes) + sizes, sizes)
        distance = np.abs(context - self.place[rows][owner])
        other = distance > 0
        weights = self.decay ** (distance[other] - 1)
        return owner[other], self.items[context[other]], weights.astype(np.float32)


def examples(histories: Histories, decay: float, *, both_sides: bool) -> Examples:
    """Every event of every user as a target, with the events before it as its anchor, the nearest counting most:
    ``decay`` to the number of events between. ``both_sides``: with the events after it too, which teaches more per
    user. A user's only event teaches nothing."""
    place = np.arange(len(histories.items))
    starts = np.flatnonzero(np.diff(histories.owner, prepend=-1))
    sizes = np.diff(np.r_[starts, len(place)])
    first = np.maximum(np.repeat(starts, sizes), place - MOST_CONTEXT)
    last = np.minimum(np.repeat(starts + sizes, sizes), place + MOST_CONTEXT + 1) if both_sides else place
    used = np.flatnonzero(last - first > both_sides)  # more than the event itself
    return Examples(
        histories.items[used], histories.owner[used], place[used], first[used], last[used], histories.items, decay
    )


def pooled(vectors: torch.Tensor, owner: Rows, context: Rows, weight: NDArray[np.float32], size: int) -> torch.Tensor:
    """(size, d) anchors at unit length: Σ weight · vector over each one's context."""
    rows = (torch.from_numpy(part).to(vectors.device) for part in (owner, context, weight))
    of, items, counts = rows
    sums = torch.zeros(size, vectors.shape[1], device=vectors.device).index_add(0, of, vectors[items] * counts[:, None])
    return functional.normalize(sums, dim=1)


def own_items(histories: Histories, users: Rows) -> tuple[Rows, Rows]:
    """(place within ``users``, item) of all events of some users, flat."""
    first, last = (np.searchsorted(histories.owner, users, side=side) for side in ("left", "right"))
    sizes = last - first
    owner = np.repeat(np.arange(len(users)), sizes)
    return owner, histories.items[np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + first[owner]]


def owner_mask(owner: Rows, columns: Rows, shape: tuple[int, int]) -> torch.Tensor:
    """(b, c) True where a candidate is an item of the anchor's own user: right as well, so no negative."""
    masked = torch.zeros(shape, dtype=torch.bool)
    masked[torch.from_numpy(owner), torch.from_numpy(columns)] = True
    return masked
