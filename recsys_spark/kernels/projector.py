"""A small head over frozen vectors, trained in minutes on a CPU: v ↦ W·v + B·relu(A·v) of whitened vectors.

The loss is a softmax over the whole catalogue. Everything it does can be written as dense layers, so that the head
becomes a part of the model folder (``head.py``). Imports torch.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from recsys_spark.kernels.contrastive import Examples, context_mask, examples, pooled, softmax_loss
from recsys_spark.kernels.head import Dense, Layer, Unit
from recsys_spark.kernels.next_item import FIT, VALID, Histories, judge
from recsys_spark.kernels.training import Record
from recsys_spark.kernels.vectors import Matrix
from recsys_spark.kernels.whitening import Moments, Whitening, whitening

MOST_CANDIDATES = 20_000
"""With more items a batch is told from its own targets and as many others, drawn evenly, as make this number."""


class Projector(torch.nn.Module):
    """(n, d) unit vectors to (n, d) unit vectors; starts as the identity. ``hidden`` 0: a matrix alone."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.matrix = torch.nn.Parameter(torch.eye(width))
        self.dropout = torch.nn.Dropout(dropout)
        self.hidden = hidden
        if hidden:
            self.inner = torch.nn.Parameter(torch.randn(width, hidden) * 4 / width**0.5)
            self.outer = torch.nn.Parameter(torch.zeros(hidden, width))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """The projected vectors, at unit length."""
        vectors = self.dropout(vectors)
        found = vectors @ self.matrix
        if self.hidden:
            found = found + self.dropout(torch.relu(vectors @ self.inner)) @ self.outer
        return functional.normalize(found, dim=1)

    def layers(self) -> list[Layer]:
        """The same as dense layers: v is relu(v) − relu(−v)."""
        matrix = self.matrix.detach().cpu().numpy()
        width = len(matrix)
        if not self.hidden:
            return [Dense(matrix.T.copy(), np.zeros(width, np.float32)), Unit()]
        inner, outer = self.inner.detach().cpu().numpy(), self.outer.detach().cpu().numpy()
        first = np.concatenate([np.eye(width), -np.eye(width), inner.T]).astype(np.float32)
        second = np.concatenate([matrix.T, -matrix.T, outer.T], axis=1)
        zeros = [np.zeros(len(first), np.float32), np.zeros(width, np.float32)]
        return [Dense(first, zeros[0], "ReLU"), Dense(second, zeros[1]), Unit()]


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
        self.module = Projector(vectors.shape[1], hidden, dropout)
        self.trainable_share = 1.0  # of the projector; nothing of the encoder moves
        self._given, self._histories = torch.from_numpy(self.vectors), histories
        self._examples: Examples = examples(histories.upto(fitted), decay, both_sides=both_sides)
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
        projected = self.module(self._given[torch.from_numpy(known)])
        anchors = pooled(projected, owner, chosen[len(candidates) :], weight, len(target))
        scores = anchors @ projected[torch.from_numpy(chosen[: len(candidates)])].T / self._temperature
        inside = np.isin(context, candidates)
        columns = np.searchsorted(candidates, context[inside])
        masked = context_mask(owner[inside], columns, (len(target), len(candidates)))
        places = torch.from_numpy(np.searchsorted(candidates, target))
        loss = softmax_loss(scores, places, self._log_q(candidates, target), masked)
        (loss * share).backward()
        return float(loss.detach())

    def validate(self) -> Record:
        """Hit rate and NDCG of the validation events, histories without them."""
        found = judge(self.projected(), self._histories, self._decay, VALID)
        return {f"valid_{name}": value for name, value in found.figures.items()} | {"valid_total": found.total}

    def projected(self) -> Matrix:
        """(n, d) what the items' vectors become; zeros stay zeros."""
        self.module.eval()
        with torch.inference_mode():
            found = self.module(self._given).numpy()
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
