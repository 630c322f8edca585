"""Language modelling of one's own texts: masked words, or the next token. Imports torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from recsys_spark.arrays.vectors import Matrix
from recsys_spark.encode.kernels.encoder import CHARS_PER_TOKEN
from recsys_spark.training.kernels.training_loop import Record, WeightsOnly
from recsys_spark.tune.kernels.head_task import HeadTask, TokenStates
from recsys_spark.tune.kernels.language_model import LanguageModel
from recsys_spark.tune.kernels.next_item_eval import FIT, VALID
from recsys_spark.tune.kernels.own_texts import OwnTexts
from recsys_spark.tune.kernels.packing import PackedRows, Text, lay_out, mask_words, next_tokens, pack
from recsys_spark.tune.kernels.trainable_encoder import TrainableEncoder

_TEXTS_PER_PASS = 16  # as many tokens as a batch of packed rows: scores of all tokens are large

_TEXTS_TOKENIZED = 10_000

_TOKENS_PER_BATCH = 512

_HEAD_TOKENS = 200_000
"""About as many tokens as the head is trained on; their states are held in memory."""

Batch = tuple[int, list[list[int]]]


@dataclass(frozen=True)
class LanguagePlan:
    """``causal``: predict the next token, else masked words, ``share`` of them; ``row``: tokens of a packed row;
    ``batch``: rows of a batch."""

    causal: bool = False
    share: float = 0.15
    row: int = 256
    batch: int = 16
    seed: int = 0


class LanguageTask(WeightsOnly):
    """Train an encoder to predict tokens of its texts; a task for ``train``. Words are masked differently in each
    epoch; on validation and test always in the same way."""

    goal = ("valid_loss", False)

    def __init__(self, own: OwnTexts, encoder: TrainableEncoder, plan: LanguagePlan) -> None:
        self._plan, self._part = plan, own.part
        self._texts = _tokenized(own.texts, encoder, plan.row)
        self._mask = encoder.tokenizer.mask_token_id
        tokens, places = np.unique(np.concatenate([text.ids for text in self._texts]), return_inverse=True)
        fitted = np.repeat(own.part == FIT, [len(text.ids) for text in self._texts])
        counts = np.bincount(places[fitted], minlength=len(tokens)) + 1  # a held-out text may have other tokens
        self._vocabulary = np.setdiff1d(tokens, np.array(encoder.tokenizer.all_special_ids, np.int64))
        log_frequency = torch.from_numpy(np.log(counts / counts.sum())).float()
        self.module = LanguageModel(encoder, plan.causal, torch.from_numpy(tokens), log_frequency)

    def head_task(self) -> HeadTask:
        """The training of the head alone, on the states of the encoder as it is now."""
        fitted, valid = (self._token_states(part, number) for part, number in ((FIT, 1), (VALID, 0)))
        model = self.module
        return HeadTask(model.head, model.embeddings(), fitted, valid, _TOKENS_PER_BATCH, self._plan.seed)

    def batches(self, epoch: int) -> Sequence[Batch]:
        """(epoch, rows of texts) in random order."""
        rng = np.random.default_rng((self._plan.seed, epoch))
        rows = self._packed(rng.permutation(np.flatnonzero(self._part == FIT)))
        rows = [rows[row] for row in rng.permutation(len(rows))]
        return [(epoch, rows[start : start + self._plan.batch]) for start in range(0, len(rows), self._plan.batch)]

    def backward(self, batch: Batch, share: float) -> float:
        """The loss of a batch is the mean over its rows of the mean over a row's predicted tokens."""
        epoch, rows = batch
        losses, row = self.module.token_losses(self._laid_out(rows, 1 + epoch))
        counts = torch.bincount(row, minlength=len(rows)).clamp(min=1)
        loss = (losses / counts[row]).sum() / len(rows)
        (loss * share).backward()
        return float(loss.detach())

    def validate(self) -> Record:
        """Mean loss per predicted token of the validation texts."""
        return {"valid_loss": mean_loss(*self.losses(VALID))}

    def losses(self, part: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """(t,) summed loss in nats of each text of the part, and (t,) its number of predicted tokens."""
        self.module.eval()
        texts = np.flatnonzero(self._part == part)
        sums, counts = np.zeros(len(self._texts)), np.zeros(len(self._texts), np.int64)
        with torch.inference_mode():
            for batch in self._by_length(texts):
                losses, row = self.module.token_losses(self._laid_out([[int(text)] for text in batch], 0))
                sums[batch] = np.bincount(row.cpu().numpy(), losses.cpu().numpy(), len(batch))
                counts[batch] = np.bincount(row.cpu().numpy(), minlength=len(batch))
        return sums[texts], counts[texts]

    def vectors(self, texts: Sequence[str | None]) -> Matrix:
        """(n, d) unit vectors of texts by the encoder as it is now; zeros for those that are None."""
        encoder, has_text = self.module.encoder, np.array([text is not None for text in texts])
        encoded = encoder.encode(encoder.token_ids([text for text in texts if text is not None]))
        vectors = np.zeros((len(texts), encoder.width), np.float32)
        vectors[has_text] = functional.normalize(torch.from_numpy(encoded), dim=1).numpy()
        return vectors

    def _token_states(self, part: int, pass_number: int) -> TokenStates:
        """States and ids of the tokens that are predicted in a pass over a part, or over a sample of its texts."""
        self.module.eval()
        texts = np.random.default_rng((self._plan.seed, part)).permutation(np.flatnonzero(self._part == part))
        share = 1.0 if self._plan.causal else self._plan.share
        predicted = np.cumsum([share * len(self._texts[text].ids) for text in texts])
        with torch.no_grad():
            batches = self._by_length(np.sort(texts[: 1 + np.searchsorted(predicted, _HEAD_TOKENS)]))
            parts = [self.module.predicted(self._laid_out([[int(t)] for t in batch], pass_number)) for batch in batches]
        return TokenStates(
            torch.cat([states for states, _, _ in parts]).float(), torch.cat([ids for _, ids, _ in parts])
        )

    def _by_length(self, texts: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """The texts in batches, shortest first, so that padding is small."""
        order = texts[np.argsort([len(self._texts[text].ids) for text in texts], kind="stable")]
        return [order[start : start + _TEXTS_PER_PASS] for start in range(0, len(order), _TEXTS_PER_PASS)]

    def _packed(self, texts: NDArray[np.int64]) -> list[list[int]]:
        """The texts in rows; each in a row of its own if the model cannot hold them apart."""
        if not self.module.packs:
            return [[int(text)] for text in texts]
        rows = pack([len(self._texts[text].ids) for text in texts], self._plan.row)
        return [[int(texts[place]) for place in row] for row in rows]

    def _laid_out(self, rows: Sequence[Sequence[int]], pass_number: int) -> PackedRows:
        """Rows of texts as arrays, with the labels of a pass over the data: 0 for evaluation."""
        predicted = partial(self._predicted, pass_number)
        return lay_out([[predicted(text) for text in row] for row in rows], self.module.encoder.tokenizer.pad_token_id)

    def _predicted(self, pass_number: int, text: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if self._plan.causal:
            return next_tokens(self._texts[text])
        rng = np.random.default_rng((self._plan.seed, pass_number, text))
        return mask_words(self._texts[text], self._plan.share, self._mask, self._vocabulary, rng)


def mean_loss(sums: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
    """Mean loss per predicted token."""
    return float(sums.sum() / max(1, counts.sum()))


def _tokenized(texts: Sequence[str], encoder: TrainableEncoder, row: int) -> list[Text]:
    """Tokens and words of the texts, each with its prompt, cut to ``row`` tokens and the model's maximum."""
    limit = min(row, encoder.spec.max_length)
    tokens, prompt = [], len(encoder.spec.role_prompt)
    for start in range(0, len(texts), _TEXTS_TOKENIZED):
        part = texts[start : start + _TEXTS_TOKENIZED]
        prepared = [encoder.spec.prepared(text)[: CHARS_PER_TOKEN * limit] for text in part]
        encoded = encoder.tokenizer(prepared, truncation=True, max_length=limit, return_offsets_mapping=True)
        for number, ids in enumerate(encoded["input_ids"]):
            words = np.array([-1 if word is None else word for word in encoded.word_ids(number)], np.int64)
            words[[end <= prompt for _, end in encoded["offset_mapping"][number]]] = -1
            if not ids:
                ids, words = [encoder.tokenizer.pad_token_id], np.array([-1])
            tokens.append(Text(np.array(ids, np.int64), words))
    return tokens
