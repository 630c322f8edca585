"""Score regression: an encoder with a linear head that predicts the score of a text. Imports torch.

The head starts as the best ridge regression on the frozen encoder. A randomly initialised head would first distort the
encoder's features (Kumar et al., ICLR 2022).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from recsys_spark.training.kernels.training_loop import Record
from recsys_spark.tune.kernels.rating_baselines import RatingPairs, Values, ridge_weights
from recsys_spark.tune.kernels.trainable_encoder import TrainableEncoder

_BATCHES_PER_SORT = 16
"""Batches whose texts are sorted by length together: little padding, and batches stay random."""

_TEXTS_PER_PASS = 64


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of the training targets, which are learned as (target − mean) / deviation."""

    mean: float
    deviation: float


class ScoreModel(torch.nn.Module):
    """An encoder and a linear head; the output is a standardised score (``Scale``)."""

    def __init__(self, encoder: TrainableEncoder) -> None:
        super().__init__()
        self.encoder, self.head = encoder, torch.nn.Linear(encoder.width, 1).to(encoder.device)

    def forward(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """(n,) standardised scores of n texts, given as token ids."""
        return self.head(self.encoder(rows))[:, 0]


class RatingTask:
    """Predict the scores of ``data``; a task for ``train``.

    Args:
        offset: (n,) the part of each score that is predicted without its text; the target is the rest. None: zeros.
        loss: ``mse`` or ``huber`` (with delta one standard deviation).
        batch: texts per batch.
    """

    goal = ("valid_mse", False)

    def __init__(
        self,
        data: RatingPairs,
        encoder: TrainableEncoder,
        *,
        loss: str,
        batch: int,
        seed: int,
        offset: Values | None = None,
    ) -> None:
        self.data, self.module, self._batch, self._seed = data, ScoreModel(encoder), batch, seed
        self._loss = torch.nn.MSELoss() if loss == "mse" else torch.nn.HuberLoss()
        self._offset = np.zeros(len(data.scores)) if offset is None else offset
        residual = data.scores - self._offset
        train = residual[data.part == 0]
        self.scale = Scale(float(train.mean()), float(train.std()))
        self._token_ids = encoder.token_ids(data.texts)
        self._lengths = np.array([len(ids) for ids in self._token_ids])
        self._target = torch.tensor((residual - self.scale.mean) / self.scale.deviation, dtype=torch.float32)
        self._start_head()

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """Rows of the training part in random batches; texts of one batch have about the same length."""
        rng, size = np.random.default_rng((self._seed, epoch)), self._batch
        order, group_size = rng.permutation(np.flatnonzero(self.data.part == 0)), size * _BATCHES_PER_SORT
        groups = [order[start : start + group_size] for start in range(0, len(order), group_size)]
        by_length = [group[np.argsort(self._lengths[group], kind="stable")] for group in groups]
        batches = [group[start : start + size] for group in by_length for start in range(0, len(group), size)]
        return [batches[number] for number in rng.permutation(len(batches))]

    def backward(self, batch: NDArray[np.int64], share: float) -> float:
        """Predict the scores of the batch and add the gradient of their loss."""
        predicted = self.module([self._token_ids[row] for row in batch])
        loss = self._loss(predicted, self._target[batch].to(predicted.device)) + self.module.encoder.regulariser()
        (loss * share).backward()
        return float(loss.detach())

    def predict(self, part: int | None = None) -> Values:
        """(n,) predicted scores, NaN outside ``part``; None: of all texts."""
        scores = np.full(len(self.data.texts), np.nan)
        selected = np.flatnonzero(self.data.part == part) if part is not None else np.arange(len(scores))
        selected = selected[np.argsort(self._lengths[selected], kind="stable")]
        self.module.eval()
        with torch.inference_mode():
            for start in range(0, len(selected), _TEXTS_PER_PASS):
                rows = selected[start : start + _TEXTS_PER_PASS]
                scores[rows] = self.module([self._token_ids[row] for row in rows]).float().cpu().numpy()
        return scores * self.scale.deviation + self.scale.mean + self._offset

    def validate(self) -> Record:
        """MSE and MAE on the validation part."""
        return {f"valid_{name}": value for name, value in self.data.errors(self.predict(1), 1).items()}

    def after_step(self, step: int) -> None:
        """Update the AdaLoRA ranks."""
        self.module.encoder.after_step(step)

    def settled(self, step: int) -> bool:
        """Whether the AdaLoRA ranks are within the budget."""
        return self.module.encoder.settled(step)

    def state(self) -> dict[str, torch.Tensor]:
        """The AdaLoRA state."""
        return self.module.encoder.state()

    def restore(self, state: dict[str, torch.Tensor], step: int) -> None:
        """Restore the AdaLoRA state."""
        self.module.encoder.restore(state, step)

    def _start_head(self) -> None:
        """Set the head to the ridge regression on the frozen encoder."""
        features = self.module.encoder.encode(self._token_ids)
        weights, intercept = ridge_weights(self.data, features, self._offset)
        with torch.no_grad():
            self.module.head.weight[0] = torch.tensor(weights / self.scale.deviation)
            self.module.head.bias[0] = (intercept - self.scale.mean) / self.scale.deviation
