"""The sequence encoder as a scorer, and its fit. Imports torch.

Validation chooses the number of epochs. The refit then trains as many, with the validation events too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from recsys_spark.arrays.vectors import Matrix
from recsys_spark.evaluate.kernels.labelled_events import LabelledEvents
from recsys_spark.evaluate.kernels.metrics import rank_metrics
from recsys_spark.evaluate.kernels.scorers import UserHistories, target_ranks
from recsys_spark.sequence.kernels.sequence_task import SequenceTask, user_states
from recsys_spark.sequence.kernels.shape import Shape
from recsys_spark.sequence.kernels.transformer import StateEncoder
from recsys_spark.training.kernels.checkpoints import Checkpoints
from recsys_spark.training.kernels.training_loop import Plan, Record, Trained, train

PLAN = Plan(epochs=20, learning_rate=1e-3)
"""Length and learning rate of the runs in QUALITY.md; others were not compared."""

_USERS_AT_ONCE = 1024

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SequenceScores:
    """Inner products of the state after a user's last event and the items.

    Args:
        vectors: (n, width) of the items.
        parameters: (p,) numbers of the ``StateEncoder``, in the order of its parameters.
        shape: its sizes.
    """

    vectors: Matrix
    parameters: NDArray[np.float32]
    shape: Shape

    @classmethod
    def of(cls, task: SequenceTask) -> "SequenceScores":
        """The scores of a trained model."""
        numbers = torch.nn.utils.parameters_to_vector(task.module.encoder.parameters())
        return cls(task.item_vectors(), numbers.detach().cpu().numpy(), task.shape)

    def scores(self, histories: UserHistories) -> Matrix:
        """(users, n); 0 for users without a history."""
        encoder = StateEncoder(self.shape)
        numbers = torch.from_numpy(np.array(self.parameters))
        torch.nn.utils.vector_to_parameters(numbers, encoder.parameters())
        vectors = np.asarray(self.vectors)
        return user_states(encoder, self.shape, vectors, histories.items, histories.offsets) @ vectors.T


def fit_sequence(
    texts: Matrix,
    events: LabelledEvents,
    *,
    epochs: int | None,
    seed: int = 0,
    shape: Shape = Shape(),  # noqa: B008  (frozen)
    report: Callable[[Record], None] = lambda _: None,
) -> tuple[SequenceScores, int]:
    """Train a sequence encoder; returns its scores and the number of epochs.

    Args:
        texts: (n, d) whitened unit vectors of the items.
        events: of all users.
        epochs: to train, without validation; None: validation chooses.
        seed: of weights, order and dropout.
        shape: sizes of the model.
        report: called with the figures of each step and each validation.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    measure = validation_measure(events)
    task = SequenceTask(texts, *events.history(fitted=True), shape, measure, seed=seed, device=device)
    plan = Plan(**{**vars(PLAN), "seed": seed, "stop_after": epochs})
    with TemporaryDirectory() as folder:
        trained: Trained = train(task, plan, Checkpoints(Path(folder), "fit"), report)
    return SequenceScores.of(task), trained.epoch + 1


def validation_measure(events: LabelledEvents) -> Callable[[SequenceTask], Record]:
    """Hit rate and NDCG at 10 of the validation events, ranked from the history, and their sum ``valid_total``."""

    def measure(task: SequenceTask) -> Record:
        vectors, found = task.item_vectors(), []
        for part in events.batches(_USERS_AT_ONCE):
            states = task.user_states(vectors, part.items, part.offsets)
            pairs = np.unique(part.target_owner * len(vectors) + part.targets)
            owner, wanted = np.divmod(pairs, len(vectors))
            seen = np.repeat(np.arange(len(part.offsets) - 1), np.diff(part.offsets)), part.items
            ranks = target_ranks(states @ vectors.T, seen, owner, wanted)
            found.append(rank_metrics(ranks, owner, len(part.offsets) - 1, 10))
        figures = {
            name: float(np.concatenate([one[name] for one in found]).mean()) if found else 0.0
            for name in ("hit_rate", "ndcg")
        }
        return {f"valid_{name}@10": value for name, value in figures.items()} | {"valid_total": sum(figures.values())}

    return measure
