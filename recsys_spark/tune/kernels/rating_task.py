"""Texts to scores: an encoder with one number on top. Imports torch.

The number starts as the best ridge regression on the frozen encoder and the whole is tuned from there: a head that
starts at random would first spoil what the encoder knows (Kumar et al., ICLR 2022).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from recsys_spark.tune.kernels.rating_baselines import RatingPairs, Values, ridge_weights
from recsys_spark.tune.kernels.trainable_encoder import TrainableEncoder
from recsys_spark.tune.kernels.training_loop import Record

_GROUP = 16
"""Batches whose texts are sorted together: little padding, and still chance."""


@dataclass(frozen=True)
class Scale:
    """Scores are learned as (score − mean) / deviation, both of the training part."""

    mean: float
    deviation: float


class ScoreModel(torch.nn.Module):
    """Encoder and head; what it gives is a score on the standardised scale."""

    def __init__(self, encoder: TrainableEncoder) -> None:
        super().__init__()
        self.encoder, self.head = encoder, torch.nn.Linear(encoder.width, 1).to(encoder.device)

    def forward(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """(n,) for n texts as token ids."""
        return self.head(self.encoder(rows))[:, 0]


class RatingTask:
    """The task of predicting the scores of ``data``; for ``train``.

    Args:
        offset: (n,) of each score, what is known without its text; the rest is learned. None: nothing.
        loss: ``mse`` or ``huber`` (of one standard deviation).
        batch: texts in one.
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
        left = data.scores - self._offset
        train = left[data.part == 0]
        self.scale = Scale(float(train.mean()), float(train.std()))
        self._rows = encoder.token_ids(data.texts)
        self._lengths = np.array([len(row) for row in self._rows])
        self._target = torch.tensor((left - self.scale.mean) / self.scale.deviation, dtype=torch.float32)
        self._start_head()

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """Rows of the training part; texts of one batch are about equally long."""
        rng = np.random.default_rng((self._seed, epoch))
        order, size = rng.permutation(np.flatnonzero(self.data.part == 0)), self._batch * _GROUP
        groups = [order[start : start + size] for start in range(0, len(order), size)]
        ordered = [group[np.argsort(self._lengths[group], kind="stable")] for group in groups]
        found = [group[start : start + self._batch] for group in ordered for start in range(0, len(group), self._batch)]
        return [found[place] for place in rng.permutation(len(found))]

    def backward(self, batch: NDArray[np.int64], share: float) -> float:
        """One forward and backward pass."""
        predicted = self.module([self._rows[row] for row in batch])
        loss = self._loss(predicted, self._target[batch].to(predicted.device)) + self.module.encoder.regulariser()
        (loss * share).backward()
        return float(loss.detach())

    def predict(self, part: int | None = None) -> Values:
        """(n,) scores of the texts of a part, NaN for others; None: of all."""
        found = np.full(len(self.data.texts), np.nan)
        asked = np.flatnonzero(self.data.part == part) if part is not None else np.arange(len(found))
        asked = asked[np.argsort(self._lengths[asked], kind="stable")]
        self.module.eval()
        with torch.inference_mode():
            for start in range(0, len(asked), 64):
                rows = asked[start : start + 64]
                found[rows] = self.module([self._rows[row] for row in rows]).float().cpu().numpy()
        return found * self.scale.deviation + self.scale.mean + self._offset

    def validate(self) -> Record:
        """MSE and MAE on the validation part."""
        return {f"valid_{name}": value for name, value in self.data.errors(self.predict(1), 1).items()}

    def after_step(self, step: int) -> None:
        """AdaLoRA's ranks."""
        self.module.encoder.after_step(step)

    def settled(self, step: int) -> bool:
        """Whether AdaLoRA's ranks meet the budget."""
        return self.module.encoder.settled(step)

    def state(self) -> dict[str, torch.Tensor]:
        """AdaLoRA's."""
        return self.module.encoder.state()

    def restore(self, state: dict[str, torch.Tensor], step: int) -> None:
        """AdaLoRA's."""
        self.module.encoder.restore(state, step)

    def _start_head(self) -> None:
        self.module.eval()
        features = np.zeros((len(self._rows), self.module.encoder.width), np.float32)
        order = np.argsort(self._lengths, kind="stable")
        with torch.inference_mode():
            for start in range(0, len(order), 64):
                rows = order[start : start + 64]
                features[rows] = self.module.encoder([self._rows[row] for row in rows]).cpu().numpy()
        weights, constant = ridge_weights(self.data, features, self._offset)
        with torch.no_grad():
            self.module.head.weight[0] = torch.tensor(weights / self.scale.deviation)
            self.module.head.bias[0] = (constant - self.scale.mean) / self.scale.deviation
