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
from recsys_spark.evaluate.kernels.metrics import rank_metrics
from recsys_spark.evaluate.kernels.scorers import UserHistories, target_ranks
from recsys_spark.sequence.kernels.sequence_task import SequenceTask, user_states
from recsys_spark.sequence.kernels.transformer import Shape, StateEncoder
from recsys_spark.training.kernels.checkpoints import Checkpoints
from recsys_spark.training.kernels.training_loop import Plan, Record, Trained, train

PLAN = Plan(epochs=20, learning_rate=1e-3)
"""Length and learning rate, the best on validation of the data sets in QUALITY.md."""

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


@dataclass(frozen=True, eq=False)
class LabelledEvents:
    """Events to fit on, and those after them that the fit is validated on.

    Args:
        items: (e,) item numbers, each user's oldest event first.
        owner: (e,) ascending rows of users.
        past: (e,) whether an event belongs to the history.
        valid: (e,) whether it is for validation.
        fitted: (u,) whether the history of a user may be trained on.
    """

    items: Rows
    owner: Rows
    past: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    fitted: NDArray[np.bool_]

    def history(self, *, fitted: bool = False) -> tuple[Rows, Rows]:
        """Items and offsets of the histories of all users; with ``fitted``, empty ones for users not trained on."""
        past = self.past & self.fitted[self.owner] if fitted else self.past
        sizes = np.bincount(self.owner[past], minlength=len(self.fitted))
        return self.items[past], np.append(0, np.cumsum(sizes))


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
    items, offsets = events.history()
    users = np.intersect1d(events.owner[events.valid], np.flatnonzero(np.diff(offsets)))

    def measure(task: SequenceTask) -> Record:
        vectors, found = task.item_vectors(), []
        for start in range(0, len(users), _USERS_AT_ONCE):
            part = users[start : start + _USERS_AT_ONCE]
            sizes = np.diff(offsets)[part]
            places = np.repeat(offsets[part], sizes) + np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            states = task.user_states(vectors, items[places], np.append(0, np.cumsum(sizes)))
            targets = events.valid & np.isin(events.owner, part)
            pairs = np.unique(np.searchsorted(part, events.owner[targets]) * len(vectors) + events.items[targets])
            owner, wanted = np.divmod(pairs, len(vectors))
            seen = np.repeat(np.arange(len(part)), sizes), items[places]
            found.append(rank_metrics(target_ranks(states @ vectors.T, seen, owner, wanted), owner, len(part), 10))
        figures = {name: float(np.concatenate([one[name] for one in found]).mean()) for name in ("hit_rate", "ndcg")}
        return {f"valid_{name}@10": value for name, value in figures.items()} | {"valid_total": sum(figures.values())}

    return measure
