"""Training of a sequence encoder: after each event, a softmax over the catalogue for the next one. Imports torch."""

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from recsys_spark.arrays.vectors import Matrix
from recsys_spark.sequence.kernels.shape import Shape
from recsys_spark.sequence.kernels.transformer import SequenceModel, StateEncoder
from recsys_spark.sequence.kernels.windows import PAD, training_windows
from recsys_spark.training.kernels.sampled_softmax import log_q, softmax_candidates
from recsys_spark.training.kernels.training_loop import Record, WeightsOnly

BATCH = 128
"""Sequences per batch."""

_STATES_AT_ONCE = 1024

Rows = NDArray[np.int64]


class SequenceTask(WeightsOnly):
    """Train on histories; a task for ``training_loop.train``.

    The loss is the cross-entropy of all items, or of a sample with logQ correction in a catalogue above
    ``MAX_CANDIDATES``. Against one sampled negative, as in the first paper, the same model ranks far worse (Klenitskiy
    and Vasilev, RecSys 2023).

    Args:
        texts: (n, d) whitened unit vectors of the items' texts.
        items: (e,) item numbers, each history's oldest event first.
        offsets: (u + 1,) where each history begins, and the end of the last.
        measure: figures of the model on validation, ``valid_total`` among them; higher is better.
        seed: of weights, order and dropout.
        device: of the model, such as cpu.
    """

    goal = ("valid_total", True)

    def __init__(
        self,
        texts: Matrix,
        items: Rows,
        offsets: Rows,
        shape: Shape,
        measure: "Callable[[SequenceTask], Record]",
        *,
        batch: int = BATCH,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        torch.manual_seed(seed)
        self.shape, self.device = shape, torch.device(device)
        self.module = SequenceModel(texts, shape).to(self.device)
        self.module.items.texts = self.module.items.texts.to(self.device)  # no buffer: checkpoints would hold it
        self._windows = training_windows(items, offsets, shape.length)
        self._measure, self._batch, self._seed = measure, batch, seed
        targets = self._windows[:, 1:]
        self._target_counts = np.bincount(targets[targets != PAD], minlength=len(texts))

    def batches(self, epoch: int) -> Sequence[tuple[int, Rows]]:
        """(batch number, rows of windows) in random order; the number seeds the sampled candidates."""
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self._windows))
        parts = [order[start : start + self._batch] for start in range(0, len(order), self._batch)]
        return [(epoch * len(parts) + number, part) for number, part in enumerate(parts)]

    def backward(self, batch: tuple[int, Rows], share: float) -> float:
        """Predict the next item after each event of a batch and add the gradient."""
        number, rows = batch
        windows = self._windows[rows]
        windows = windows[:, : int((windows != PAD).sum(axis=1).max())]
        targets = windows[:, 1:]
        wanted = targets[targets != PAD]
        vectors = self.module.items()
        context = torch.from_numpy(windows[:, :-1]).to(self.device)
        states = self.module(vectors, context)[torch.from_numpy(targets != PAD).to(self.device)]
        candidates = softmax_candidates(len(vectors), wanted, (self._seed, 1, number))
        sampled = log_q(candidates, self._target_counts, len(wanted))
        if sampled is None:
            scores, columns = states @ vectors.T, wanted
        else:
            scores = states @ vectors[torch.from_numpy(candidates).to(self.device)].T - sampled.to(self.device)
            columns = np.searchsorted(candidates, wanted)
        loss = functional.cross_entropy(scores, torch.from_numpy(columns).to(self.device))
        (loss * share).backward()
        return float(loss.detach())

    def validate(self) -> Record:
        """The figures of ``measure``."""
        return self._measure(self)

    def item_vectors(self) -> Matrix:
        """(n, width) vectors of all items."""
        self.module.eval()
        with torch.inference_mode():
            return np.asarray(self.module.items().cpu().numpy())

    def user_states(self, vectors: Matrix, items: Rows, offsets: Rows) -> Matrix:
        """(u, width) the state after the last event of each history."""
        return user_states(self.module.encoder, self.shape, vectors, items, offsets)


def user_states(encoder: StateEncoder, shape: Shape, vectors: Matrix, items: Rows, offsets: Rows) -> Matrix:
    """(u, width) float32: the state after the last event of each history; zeros for an empty history.

    Args:
        encoder: the transformer, which is not changed.
        vectors: (n, width) of the items.
        items: (e,) rows of ``vectors``, each history's oldest event first.
        offsets: (u + 1,) where each history begins, and the end of the last.
    """
    # In float64 the order of sums, which depends on the batch and the BLAS, hardly ever moves a bit of the result.
    encoder = copy.deepcopy(encoder).double().eval()
    device, states = encoder.places.device, np.zeros((len(offsets) - 1, shape.width), np.float32)
    sizes = np.minimum(np.diff(offsets), shape.length)
    for size in np.unique(sizes[sizes > 0]):
        users = np.flatnonzero(sizes == size)
        for start in range(0, len(users), _STATES_AT_ONCE):
            part = users[start : start + _STATES_AT_ONCE]
            places = offsets[1:][part][:, None] - size + np.arange(size)
            with torch.inference_mode():
                events = torch.from_numpy(vectors[items[places]]).to(device).double()
                states[part] = encoder(events)[:, -1].cpu().numpy()
    return states
