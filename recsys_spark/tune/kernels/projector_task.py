"""A projector on frozen, whitened item vectors: v ↦ W·v + B·relu(A·v) + C·near(v). Trains in minutes on a CPU.

``near(v)`` is a kernel feature per key, a known item: 1 at the item's own vector, falling linearly to 0 at a cosine of
``MIN_COSINE``. Each known item thereby learns an offset of its own, as in collaborative filtering. Items with nearly
the same text share it, and a new text gets a part of it. The loss is a softmax over the catalogue. The projector can be
written as dense layers of a model folder (``encode/kernels/dense_head.py``). Imports torch.
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
from recsys_spark.training.kernels.sampled_softmax import log_q, softmax_candidates
from recsys_spark.training.kernels.training_loop import Record, WeightsOnly
from recsys_spark.tune.kernels.contrastive_loss import (
    Examples,
    build_examples,
    pool_anchors,
    positives_mask,
    softmax_loss,
    user_items,
)
from recsys_spark.tune.kernels.next_item_eval import FIT, VALID, Histories, evaluate_next_item

MIN_COSINE = 0.5
"""Cosine of whitened vectors up to which a text gets nothing of a known item's offset."""

OFFSET_DROPOUT = 0.5
"""Share of the offsets that a step leaves out, so that the text features must do without them."""

OFFSET_RATE = 3.0
"""Learning-rate factor of the offsets: each has few numbers and is seen in few batches."""

_ROWS_PER_BLOCK = 1024


class Projector(torch.nn.Module):
    """Map (n, d) unit vectors to (n, d) unit vectors; starts as the identity.

    Args:
        hidden: width of the inner layer; 0 for no inner layer.
        keys: (m, d) unit vectors of the known items, each with an offset; None for no offsets.
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
        """(n, d) projected unit vectors; ``near`` (n, m) is ``nearness`` of the input vectors to the keys."""
        vectors = self.dropout(vectors)
        projected = vectors @ self.matrix
        if self.hidden:
            projected = projected + self.dropout(torch.relu(vectors @ self.inner)) @ self.outer
        if len(self.keys):
            rate = functional.dropout(OFFSET_RATE * torch.ones(len(self.keys), 1), OFFSET_DROPOUT, self.training)
            projected = projected + _SparseProduct.apply(near, rate * self.offsets)
        return functional.normalize(projected, dim=1)

    @property
    def trainable_share(self) -> float:
        """Trainable share of the projector's numbers: all but the keys."""
        trainable = sum(weight.numel() for weight in self.parameters())
        return trainable / (trainable + self.keys.size)

    def layers(self) -> list[Layer]:
        """The same function as dense layers; v passes the ReLU as relu(v) − relu(−v)."""
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
            first.append(self.keys / (1 - MIN_COSINE))
            second.append(OFFSET_RATE * self.offsets.detach().cpu().numpy().T)
            shift.append(np.full(len(self.keys), -MIN_COSINE / (1 - MIN_COSINE)))
        inner, outer = np.concatenate(first).astype(np.float32), np.concatenate(second, axis=1).astype(np.float32)
        bias = np.concatenate(shift).astype(np.float32)
        return [Dense(inner, bias, "ReLU"), Dense(outer, np.zeros(width, np.float32)), Unit()]


class _SparseProduct(torch.autograd.Function):
    """A constant sparse matrix times a trainable dense one."""

    @staticmethod
    def forward(ctx: Any, left: sp.csr_array, right: torch.Tensor) -> torch.Tensor:
        ctx.left = left
        return torch.from_numpy(left @ right.detach().numpy())

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return None, torch.from_numpy(ctx.left.T @ gradients[0].numpy())


def nearness(vectors: Matrix, keys: Matrix) -> sp.csr_array:
    """(n, m) float32: max(0, (cosine − MIN_COSINE) / (1 − MIN_COSINE)) of each vector and each key."""
    parts = [sp.csr_array((0, len(keys)), dtype=np.float32)]
    for start in range(0, len(vectors), _ROWS_PER_BLOCK):
        cosine = vectors[start : start + _ROWS_PER_BLOCK] @ keys.T
        parts.append(sp.csr_array(np.maximum((cosine - MIN_COSINE) / (1 - MIN_COSINE), 0).astype(np.float32)))
    return sp.csr_array(sp.vstack(parts))


def whitening_layers(transform: Whitening | None) -> list[Layer]:
    """The whitening as dense layers; an empty list for None."""
    if transform is None:
        return []
    matrix = transform.matrix.T.astype(np.float32)
    return [Unit(), Dense(matrix, (-transform.mean @ transform.matrix).astype(np.float32)), Unit()]


class ProjectorTask(WeightsOnly):
    """Train a projector on histories; a task for ``train``.

    Args:
        vectors: (n, d) unit rows of the frozen encoder, zeros for an item without a vector.
        histories: of all users; events of roles up to ``fitted`` are learned from, VALID events are validated on.
        shrink: shrinkage of the whitening before the projector; None for no whitening.
        memory: number of items, those with the most events, that learn an offset of their own.
        temperature: of the softmax.
        batch: examples per batch.
        both_sides: learn from the events after a target too.
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
        self._fitted = histories.upto(fitted)
        keys = self.vectors[_most_frequent_items(self._fitted, self.vectors, memory)]
        self.module = Projector(vectors.shape[1], hidden, dropout, keys)
        self.trainable_share = self.module.trainable_share  # of the projector only: the encoder is frozen
        self._inputs, self._histories = torch.from_numpy(self.vectors), histories
        self._near = nearness(self.vectors, keys)
        self._examples: Examples = build_examples(self._fitted, decay, both_sides=both_sides)
        self._target_counts = np.bincount(self._examples.target, minlength=len(vectors))
        self._temperature, self._decay, self._batch, self._seed = temperature, decay, batch, seed

    def batches(self, epoch: int) -> Sequence[tuple[int, np.ndarray]]:
        """(batch number, examples) in random order; the number seeds the sampled candidates."""
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self._examples.target))
        parts = [order[start : start + self._batch] for start in range(0, len(order), self._batch)]
        return [(epoch * len(parts) + number, part) for number, part in enumerate(parts)]

    def backward(self, batch: tuple[int, np.ndarray], share: float) -> float:
        """Score a batch of anchors against the candidates and add the gradient."""
        number, rows = batch
        owner, context, weight = self._examples.contexts(rows)
        target = self._examples.target[rows]
        candidates = softmax_candidates(len(self._inputs), target, (self._seed, 1, number))
        items, positions = np.unique(np.concatenate([candidates, context]), return_inverse=True)
        # Context items that are no candidates are projected too; the softmax runs over the candidates only.
        projected = self.module(self._inputs[torch.from_numpy(items)], self._near[items])
        anchors = pool_anchors(projected, owner, positions[len(candidates) :], weight, len(target))
        scores = anchors @ projected[torch.from_numpy(positions[: len(candidates)])].T / self._temperature
        owner, positives = user_items(self._fitted, self._examples.user[rows])
        inside = np.isin(positives, candidates)
        columns = np.searchsorted(candidates, positives[inside])
        masked = positives_mask(owner[inside], columns, (len(target), len(candidates)))
        target_column = torch.from_numpy(np.searchsorted(candidates, target))
        loss = softmax_loss(scores, target_column, log_q(candidates, self._target_counts, len(target)), masked)
        (loss * share).backward()
        return float(loss.detach())

    def validate(self) -> Record:
        """Hit rate and NDCG of the validation events, each ranked from the history before it."""
        result = evaluate_next_item(self.item_vectors(), self._histories, self._decay, VALID)
        return {f"valid_{name}": value for name, value in result.figures.items()} | {"valid_total": result.total}

    def item_vectors(self) -> Matrix:
        """(n, d) projected vectors of all items; zeros stay zeros."""
        self.module.eval()
        with torch.inference_mode():
            projected = self.module(self._inputs, self._near).numpy()
        return np.where(self.vectors.any(axis=1, keepdims=True), projected, 0).astype(np.float32)

    def layers(self) -> list[Layer]:
        """Whitening and projector as dense layers of a model folder."""
        return [*whitening_layers(self.whitening), *self.module.layers()]


def _most_frequent_items(histories: Histories, vectors: Matrix, limit: int) -> np.ndarray:
    """Ascending rows of the items with the most events; items without a vector or an event are left out."""
    counts = np.where(vectors.any(axis=1), np.bincount(histories.items, minlength=len(vectors)), 0)
    order = np.argsort(-counts, kind="stable")[:limit]
    return np.sort(order[counts[order] > 0])
