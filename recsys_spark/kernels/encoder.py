"""Texts to unit vectors with a transformer. Imports torch: import this module inside UDF bodies only."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from recsys_spark.errors import InputError
from recsys_spark.kernels.model_folder import ModelSpec, read_model

transformers_logging.disable_progress_bar()

PADDING = 4
"""Texts are padded to a multiple of this many tokens: few enough to waste little, many enough to fill batches."""

_LOADED: dict[tuple[str, str], "Encoder"] = {}


@dataclass(frozen=True)
class Encoded:
    """``vectors`` float32 (n, d), unit length or NaN where the model failed; ``tokens`` (n,) after truncation."""

    vectors: NDArray[np.float32]
    tokens: NDArray[np.int64]
    truncated: NDArray[np.bool_]


def load_encoder(spec: ModelSpec, device: str = "cpu", threads: int = 1) -> "Encoder":
    """The encoder of this process: loaded once, kept until another model is asked for.

    Raises:
        InputError: the folder is missing on this machine, or holds other weights than the driver saw.
    """
    key = (spec.fingerprint, device)
    if key not in _LOADED:
        here = read_model(spec.folder, spec.pooling, spec.max_length, spec.prompt)
        if here.fingerprint != spec.fingerprint:
            raise InputError(
                f"model folder {spec.folder} differs between driver and executor: ship one and the same folder"
            )
        _LOADED.clear()  # one model per worker: a second copy is what exhausts a GPU
        _LOADED[key] = Encoder(spec, device, threads)
    return _LOADED[key]


class Encoder:
    """A model and its tokenizer on one device."""

    def __init__(self, spec: ModelSpec, device: str = "cpu", threads: int = 1) -> None:
        torch.set_num_threads(threads)
        self.spec, self.device = spec, torch.device(device)
        self.tokenizer = AutoTokenizer.from_pretrained(spec.folder, local_files_only=True, trust_remote_code=False)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        model = AutoModel.from_pretrained(
            spec.folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        )
        self.model = model.to(self.device).eval()

    def encode(self, texts: Sequence[str], batch_tokens: int = 2048) -> Encoded:
        """Encode in batches of equal length, ``batch_tokens`` = length × count per forward pass; in the order of
        ``texts``.

        On the CPU the vector of a text has the same bits whatever the batch, its neighbours and ``batch_tokens``.
        """
        if not texts:
            raise ValueError("nothing to encode")
        limit = self.spec.max_length
        prompted = [self.spec.prompt + text for text in texts]
        # Ten characters a token is generous: what lies beyond cannot be reached, and a 10 MB text must not be
        # tokenised.
        cut = [text[: 10 * limit] for text in prompted]
        rows = self.tokenizer(cut, truncation=True, max_length=limit)["input_ids"]
        lengths = np.array([len(row) for row in rows])
        vectors = np.empty((len(texts), self.model.config.hidden_size), np.float32)
        for length, batch in _batches(lengths, batch_tokens, limit):
            vectors[batch] = self._forward([rows[i] for i in batch], length)
        # The tokenizer does not say whether it cut: a row that fills the limit most likely was.
        full = (lengths >= limit) | np.array([len(text) > 10 * limit for text in prompted])
        return Encoded(vectors, lengths, full)

    @torch.inference_mode()
    def _forward(self, rows: list[list[int]], length: int) -> NDArray[np.float32]:
        ids = torch.full((len(rows), length), self.tokenizer.pad_token_id, dtype=torch.long)
        mask = torch.zeros((len(rows), length), dtype=torch.long)
        for i, row in enumerate(rows):  # padded on the right whatever the tokenizer prefers, so positions start at 0
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        ids, mask = ids.to(self.device), mask.to(self.device)
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        pooled = pool(hidden, mask, self.spec.pooling).float()
        return torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """(n, t, d) token vectors and their (n, t) mask, padded on the right, to (n, d)."""
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "last_token":
        return hidden[torch.arange(len(hidden)), mask.sum(1) - 1]
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)


def _batches(lengths: NDArray[np.int64], batch_tokens: int, limit: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """(padded length, places) of each batch, longest first, so that memory peaks at once and not at the end.

    Only texts of one padded length meet. On the CPU a vector then depends on its text alone, to the last bit: the
    other rows of a batch change nothing in torch's products, but another padded length does.
    """
    padded = np.minimum(-(-lengths // PADDING) * PADDING, limit)
    for length in np.unique(padded)[::-1].tolist():
        places = np.flatnonzero(padded == length)
        rows = max(1, batch_tokens // length)
        for start in range(0, len(places), rows):
            yield length, places[start : start + rows]
