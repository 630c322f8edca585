"""An encoder with a head that predicts tokens. Imports torch."""

from typing import Any, cast

import numpy as np
import torch
from torch.nn import functional

from recsys_spark.errors import UsageError
from recsys_spark.tune.kernels.packing import IGNORED, PackedRows
from recsys_spark.tune.kernels.trainable_encoder import TrainableEncoder

_PROBE_TOLERANCE = 1e-3  # largest relative difference of states that rounding explains


class TokenHead(torch.nn.Module):
    """Scores of tokens from hidden states: a linear map that starts as the identity, layer norm, and the product with
    the input embeddings of the encoder (tied weights: Press and Wolf, EACL 2017).

    Args:
        tokens: (k,) ids of the tokens that are scored.
        log_frequency: (k,) the bias at the start.
    """

    def __init__(self, width: int, tokens: torch.Tensor, log_frequency: torch.Tensor) -> None:
        super().__init__()
        self.tokens = tokens  # no buffer: it does not change, so that checkpoints need not hold it
        self.map, self.norm = torch.nn.Linear(width, width), torch.nn.LayerNorm(width)
        self.bias = torch.nn.Parameter(log_frequency.clone())
        with torch.no_grad():
            self.map.weight.copy_(torch.eye(width))
            self.map.bias.zero_()

    def losses(self, states: torch.Tensor, labels: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """(p,) cross-entropy in nats of (p,) token ids from (p, d) states."""
        tokens = self.tokens.to(states.device)
        scores = functional.linear(self.norm(self.map(states)), embeddings[tokens], self.bias)
        places = torch.searchsorted(tokens, labels)
        return functional.cross_entropy(scores.float(), places, reduction="none")


class LanguageModel(torch.nn.Module):
    """An encoder whose states a head turns into tokens.

    Args:
        encoder: with a trainable part.
        causal: whether tokens see only earlier ones.
        tokens, log_frequency: of ``TokenHead``; ``tokens`` ascending.

    Raises:
        UsageError: the model's attention does not fit ``causal``, or its embeddings do not fit its states.
    """

    def __init__(
        self, encoder: TrainableEncoder, causal: bool, tokens: torch.Tensor, log_frequency: torch.Tensor
    ) -> None:
        super().__init__()
        self.encoder, self.causal = encoder, causal
        self._offset: int | None = 0
        self._probe()
        self.head = TokenHead(self.embeddings().shape[1], tokens, log_frequency).to(encoder.device)

    @property
    def packs(self) -> bool:
        """Whether texts may share a row: the states of a text are then the same as alone."""
        return self._offset is not None

    def predicted(self, rows: PackedRows) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(p, d) states of the p tokens to predict, (p,) their ids and (p,) the numbers of their rows."""
        labels = torch.from_numpy(rows.labels).to(self.encoder.device)
        chosen = labels != IGNORED
        with self._precision():
            states = self._states(rows)[chosen]
        return states, labels[chosen], chosen.nonzero()[:, 0]

    def token_losses(self, rows: PackedRows) -> tuple[torch.Tensor, torch.Tensor]:
        """(p,) cross-entropy in nats of the p tokens to predict, and (p,) the numbers of their rows."""
        states, labels, row = self.predicted(rows)
        with self._precision():
            return self.head.losses(states, labels, self.embeddings()), row

    def embeddings(self) -> torch.Tensor:
        """(v, d) input embeddings."""
        weight: torch.Tensor = self.encoder.model.get_input_embeddings().weight
        return weight

    def _precision(self) -> Any:
        return torch.autocast("cuda", torch.bfloat16, enabled=self.encoder.device.startswith("cuda"))

    def _states(self, rows: PackedRows) -> torch.Tensor:
        """(n, l, d) hidden states of the tokens."""
        device = self.encoder.device
        ids = torch.from_numpy(rows.ids).to(device)
        if self._offset is None:
            mask = torch.from_numpy(rows.segments > 0).to(device)
            return cast(torch.Tensor, self.encoder.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state)
        sees = torch.from_numpy(rows.sees(self.causal)).to(device)[:, None]
        mask = torch.zeros(sees.shape, device=device).masked_fill(~sees, torch.finfo(torch.float32).min)
        positions = torch.from_numpy(rows.positions + self._offset).to(device)
        output = self.encoder.model(input_ids=ids, attention_mask=mask, position_ids=positions)
        return cast(torch.Tensor, output.last_hidden_state)

    def _probe(self) -> None:
        """Check the attention, and how positions must be given so that a packed text has the states it has alone."""
        ids = np.arange(8)[None] + self.embeddings().shape[0] // 2
        alone = [_row(ids[:, part], np.zeros(4)) for part in (slice(0, 4), slice(4, 8))]
        packed = _row(ids, np.repeat([0, 1], 4))
        self.eval()
        with torch.inference_mode():
            self._offset = None
            whole, part = self._states(_row(ids, np.zeros(8)))[:, :4], self._states(alone[0])
            expected = torch.cat([part, self._states(alone[1])], dim=1)
            if _equal(whole, part) != self.causal:
                raise UsageError(_WRONG_ATTENTION[self.causal])
            if whole.shape[-1] != self.embeddings().shape[1]:
                raise UsageError("the model's token embeddings are narrower than its states: it cannot predict tokens")
            padding = self.encoder.tokenizer.pad_token_id or 0
            for offset in (0, padding + 1):  # RoBERTa counts positions from the padding's number
                self._offset = offset
                try:
                    if _equal(self._states(packed), expected):
                        return
                except (TypeError, ValueError, RuntimeError, IndexError):
                    continue  # it takes no positions, or no mask of pairs
        self._offset = None


_WRONG_ATTENTION = {
    True: "--objective=causal_lm needs a model in which a token sees only earlier ones, and this one sees all: use "
    "--objective=masked_lm",
    False: "--objective=masked_lm needs a model in which a token sees all others, and this one sees only earlier ones: "
    "use --objective=causal_lm",
}


def _row(ids: np.ndarray, text: np.ndarray) -> PackedRows:
    """One row; ``text`` numbers the texts of its tokens."""
    first = np.searchsorted(text, text)
    return PackedRows(
        ids, np.full(ids.shape, IGNORED), text[None].astype(np.int64) + 1, (np.arange(len(text)) - first)[None]
    )


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool((a - b).abs().max() <= _PROBE_TOLERANCE * b.abs().max())
