"""A small head over frozen vectors, trained in minutes on a CPU: v ↦ W·v + B·relu(A·v) + C·near(v) of whitened vectors.

``near`` is a kernel: one unit for each known item, which is 1 on that item's own vector and falls to 0 where the cosine
is ``NEAR``. So every item learns an offset of its own, as in collaborative filtering, which items with almost the same
text share and a new text gets a part of. The loss is a softmax over the whole catalogue. Everything can be written as
dense layers, so that the head becomes a part of the model folder (``head.py``). Imports torch.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch.nn import functional

from recsys_spark.arrays.vectors import Matrix
from recsys_spark.encode.kernels.dense_head import Dense, Layer, Unit
from recsys_spark.items.kernels.whitening import Moments, Whitening, whitening
from recsys_spark.tune.kernels.contrastive_loss import Examples, examples, own_items, owner_mask, pooled, softmax_loss
from recsys_spark.tune.kernels.next_item_eval import FIT, VALID, Histories, evaluate_next_item
from recsys_spark.tune.kernels.training_loop import Record

MOST_CANDIDATES = 20_000
"""With more items a batch is told from its own targets and as many others, drawn evenly, as make this number."""

NEAR = 0.5
"""Cosine of whitened vectors below which a text gets nothing of what a known item has learned."""

FORGET = 0.5
"""Share of the known items whose offsets are left out of a step, so that words have to do without them."""

PACE = 3.0
"""Offsets learn so many times as fast as the rest: they are few numbers for each item, seen in few batches."""

_ROWS = 1024


class Projector(torch.nn.Module):
    """(n, d) unit vectors to (n, d) unit vectors; starts as the identity.

    Args:
        hidden: width of the inner layer, 0 for none.
        keys: (m, d) unit vectors of known items, each with an offset of its own; none: a matrix and the inner layer.
    """

    def __init__(self, width: int, hidden: int, dropout: float, keys: Matrix | None = None) -> None:
        super().__init__()
        self.matrix = torch.nn.Parameter(torch.eye(width))
        self.dropout = torch.nn.Dropout(dropout)
        self.hidden, self.keys = hidden, np.empty((0, width), np.float32) if keys is None else keys
        if hidden:
            self.inner = torch.nn.Parameter(torch.randn(width, hidden) * 4 / width**0.5)
            self.outer = torch.nn.Parameter(torch.zeros(hidden, width))
        if len(self.keys):
            self.offsets = torch.nn.Parameter(torch.zeros(len(self.keys), width))

    def forward(self, vectors: torch.Tensor, near: sp.csr_array) -> torch.Tensor:
        """The projected vectors, at unit length; ``near`` is ``nearness`` of them to the keys."""
        vectors = self.dropout(vectors)
        found = vectors @ self.matrix
        if self.hidden:
            found = found + self.dropout(torch.relu(vectors @ self.inner)) @ self.outer
        if len(self.keys):
            kept = torch.ones(len(self.keys), 1)
            found = found + _Product.apply(near, functional.dropout(PACE * kept, FORGET, self.training) * self.offsets)
        return functional.normalize(found, dim=1)

    @property
    def trainable_share(self) -> float:
        """Of its numbers, those that move: keys do not."""
        moving = sum(weight.numel() for weight in self.parameters())
        return moving / (moving + self.keys.size)

    def layers(self) -> list[Layer]:
        """The same as dense layers: v is relu(v) − relu(−v)."""
        matrix = self.matrix.detach().cpu().numpy()
        width = len(matrix)
        if not self.hidden and not len(self.keys):
            return [Dense(matrix.T.copy(), np.zeros(width, np.float32)), Unit()]
        first: list[Matrix] = [np.eye(width, dtype=np.float32), -np.eye(width, dtype=np.float32)]
        second, shift = [matrix.T, -matrix.T], [np.zeros(2 * width)]
        if self.hidden:
            first.append(self.inner.detach().cpu().numpy().T)
            second.append(self.outer.detach().cpu().numpy().T)
            shift.append(np.zeros(self.hidden))
        if len(self.keys):
            first.append(self.keys / (1 - NEAR))
            second.append(PACE * self.offsets.detach().cpu().numpy().T)
            shift.append(np.full(len(self.keys), -NEAR / (1 - NEAR)))
        inner, outer = np.concatenate(first).astype(np.float32), np.concatenate(second, axis=1).astype(np.float32)
        bias = np.concatenate(shift).astype(np.float32)
        return [Dense(inner, bias, "ReLU"), Dense(outer, np.zeros(width, np.float32)), Unit()]


class _Product(torch.autograd.Function):
    """A sparse matrix that stays as it is, times a dense one that learns."""

    @staticmethod
    def forward(ctx: Any, left: sp.csr_array, right: torch.Tensor) -> torch.Tensor:
        ctx.left = left
        return torch.from_numpy(left @ right.detach().numpy())

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return None, torch.from_numpy(ctx.left.T @ gradients[0].numpy())


def nearness(vectors: Matrix, keys: Matrix) -> sp.csr_array:
    """(n, m) float32: (cosine − NEAR) / (1 − NEAR) where that is above 0."""
    parts = [sp.csr_array((0, len(keys)), dtype=np.float32)]
    for start in range(0, len(vectors), _ROWS):
        near = vectors[start : start + _ROWS] @ keys.T
        parts.append(sp.csr_array(np.maximum((near - NEAR) / (1 - NEAR), 0).astype(np.float32)))
    return sp.csr_array(sp.vstack(parts))


def whitening_layers(transform: Whitening | None) -> list[Layer]:
    """The whitening as dense layers; none where there is none."""
    if transform is None:
        return []
    matrix = transform.matrix.T.astype(np.float32)
    return [Unit(), Dense(matrix, (-transform.mean @ transform.matrix).astype(np.float32)), Unit()]


class ProjectorTask:
    """Training a projector; for ``train``.

    Args:
        vectors: (n, d) unit rows of the frozen encoder, zeros where an item has none.
        histories: of all users; events up to ``fitted`` (a role) are learned from, VALID ones are validated on.
        shrink: of the whitening before the projector, None for none.
        memory: items, those with the most events, that learn an offset of their own.
        temperature, batch: of the softmax; examples in a batch.
        both_sides: learn from what came after a target too.
    """

    goal = ("valid_total", True)

    def __init__(
        self,
        vectors: Matrix,
        histories: Histories,
        *,
        fitted: int = FIT,
        shrink: float | None = 0.1,
        hidden: int = 1024,
        memory: int = 10_000,
        dropout: float = 0.3,
        temperature: float = 0.07,
        decay: float = 0.75,
        batch: int = 1024,
        both_sides: bool = True,
        seed: int = 0,
    ) -> None:
        torch.manual_seed(seed)
        self.whitening = None if shrink is None else whitening(Moments.of(vectors), shrink)
        self.vectors = vectors if self.whitening is None else self.whitening.apply(vectors)
        self._learned = histories.upto(fitted)
        keys = self.vectors[_busiest(self._learned, self.vectors, memory)]
        self.module = Projector(vectors.shape[1], hidden, dropout, keys)
        self.trainable_share = self.module.trainable_share  # of the projector; nothing of the encoder moves
        self._given, self._histories = torch.from_numpy(self.vectors), histories
        self._near = nearness(self.vectors, keys)
        self._examples: Examples = examples(self._learned, decay, both_sides=both_sides)
        self._temperature, self._decay, self._batch, self._seed = temperature, decay, batch, seed

    def batches(self, epoch: int) -> Sequence[tuple[int, np.ndarray]]:
        """(seed, examples) in random order."""
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self._examples.target))
        parts = [order[start : start + self._batch] for start in range(0, len(order), self._batch)]
        return [(epoch * len(parts) + number, part) for number, part in enumerate(parts)]

    def backward(self, batch: tuple[int, np.ndarray], share: float) -> float:
        """One pass over the candidates and a batch of anchors."""
        owner, context, weight = self._examples.of(batch[1])
        target = self._examples.target[batch[1]]
        candidates = self._candidates(batch[0], target)
        known, chosen = np.unique(np.concatenate([candidates, context]), return_inverse=True)
        # Context that is no candidate is projected too; the softmax runs over the candidates.
        projected = self.module(self._given[torch.from_numpy(known)], self._near[known])
        anchors = pooled(projected, owner, chosen[len(candidates) :], weight, len(target))
        scores = anchors @ projected[torch.from_numpy(chosen[: len(candidates)])].T / self._temperature
        owner, own = own_items(self._learned, self._examples.user[batch[1]])
        inside = np.isin(own, candidates)
        columns = np.searchsorted(candidates, own[inside])
        masked = owner_mask(owner[inside], columns, (len(target), len(candidates)))
        places = torch.from_numpy(np.searchsorted(candidates, target))
        loss = softmax_loss(scores, places, self._log_q(candidates, target), masked)
        (loss * share).backward()
        return float(loss.detach())

    def validate(self) -> Record:
        """Hit rate and NDCG of the validation events, histories without them."""
        found = evaluate_next_item(self.projected(), self._histories, self._decay, VALID)
        return {f"valid_{name}": value for name, value in found.figures.items()} | {"valid_total": found.total}

    def projected(self) -> Matrix:
        """(n, d) what the items' vectors become; zeros stay zeros."""
        self.module.eval()
        with torch.inference_mode():
            found = self.module(self._given, self._near).numpy()
        return np.where(self.vectors.any(axis=1, keepdims=True), found, 0).astype(np.float32)

    def layers(self) -> list[Layer]:
        """Whitening and projector as layers of a model folder."""
        return [*whitening_layers(self.whitening), *self.module.layers()]

    def after_step(self, step: int) -> None:
        """Nothing."""

    def settled(self, step: int) -> bool:
        """Always."""
        return True

    def state(self) -> dict[str, torch.Tensor]:
        """None beside the weights."""
        return {}

    def restore(self, state: dict[str, torch.Tensor], step: int) -> None:
        """Nothing."""

    def _candidates(self, seed: int, target: np.ndarray) -> np.ndarray:
        size = len(self._given)
        if size <= MOST_CANDIDATES:
            return np.arange(size)
        drawn = np.random.default_rng((self._seed, 1, seed)).choice(size, MOST_CANDIDATES, replace=False)
        return np.union1d(drawn, target)

    def _log_q(self, candidates: np.ndarray, target: np.ndarray) -> torch.Tensor | None:
        """ln of the chance to be a candidate: drawn evenly, or as the target of one of the batch."""
        size = len(self._given)
        if len(candidates) == size:
            return None
        counts = np.bincount(self._examples.target, minlength=size)[candidates] / len(self._examples.target)
        even = MOST_CANDIDATES / size
        return torch.from_numpy(np.log(1 - (1 - even) * (1 - counts) ** len(target))).float()


def _busiest(histories: Histories, vectors: Matrix, most: int) -> np.ndarray:
    """Rows of the items with the most events, in their own order; none without a vector or an event."""
    counts = np.where(vectors.any(axis=1), np.bincount(histories.items, minlength=len(vectors)), 0)
    order = np.argsort(-counts, kind="stable")[:most]
    return np.sort(order[counts[order] > 0])
