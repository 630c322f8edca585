"""Training of a token head on the states of an encoder that stays as it is. Imports torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from recsys_spark.training.kernels.training_loop import Record, WeightsOnly
from recsys_spark.tune.kernels.language_model import TokenHead


@dataclass(frozen=True, eq=False)
class TokenStates:
    """(p, d) states of tokens, and (p,) their ids."""

    states: torch.Tensor
    ids: torch.Tensor


class HeadTask(WeightsOnly):
    """Train ``head`` to predict tokens from fixed states; a task for ``train``."""

    goal = ("valid_loss", False)

    def __init__(
        self, head: TokenHead, embeddings: torch.Tensor, fitted: TokenStates, valid: TokenStates, batch: int, seed: int
    ) -> None:
        self.module, self._embeddings = head, embeddings.detach()
        self._fitted, self._valid, self._batch, self._seed = fitted, valid, batch, seed

    def batches(self, epoch: int) -> Sequence[torch.Tensor]:
        """Rows of the fitted states in random order."""
        generator = torch.Generator().manual_seed(self._seed + epoch)
        return torch.randperm(len(self._fitted.ids), generator=generator).split(self._batch)

    def backward(self, batch: torch.Tensor, share: float) -> float:
        """Mean loss of the tokens of a batch."""
        loss = self.module.losses(self._fitted.states[batch], self._fitted.ids[batch], self._embeddings).mean()
        (loss * share).backward()
        return float(loss.detach())

    def validate(self) -> Record:
        """Mean loss of the validation tokens."""
        with torch.inference_mode():
            parts = [slice(start, start + self._batch) for start in range(0, len(self._valid.ids), self._batch)]
            valid = self._valid
            losses = [self.module.losses(valid.states[part], valid.ids[part], self._embeddings) for part in parts]
        return {"valid_loss": float(torch.cat(losses).mean())}
