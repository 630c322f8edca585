"""Encode texts to unit vectors with a transformer. Imports torch: import this module inside UDF bodies only."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recsys_spark.arrays.vectors import unit_rows
from recsys_spark.encode.kernels.dense_head import apply_head, check_widths, read_head
from recsys_spark.encode.kernels.engines import Engine, onnx_engine, openvino_engine, torch_engine
from recsys_spark.encode.kernels.loading import load_config, load_tokenizer
from recsys_spark.encode.kernels.model_folder import ModelSpec, digest
from recsys_spark.errors import InputError, UsageError

PADDING = 4
"""Texts are padded to a multiple of this many tokens: more would waste tokens, fewer would leave batches small."""

CHARS_PER_TOKEN = 10
"""Upper bound of the characters of a token in any language. A text is truncated to ``max_length`` times this number of
characters before the tokenizer, which must not read a text of 10 MB."""

MAX_PIECES = 32
"""Maximum number of pieces of a long text, with ``long_text = "chunk"``."""

NOT_FINITE = "the model gave no finite vector for this text"

OUT_OF_MEMORY = "this text alone does not fit in memory"

_LOADED: dict[tuple[object, ...], "Model"] = {}


@dataclass(frozen=True)
class Encoded:
    """Vectors and token counts of n texts.

    Attributes:
        vectors: (n, d) at unit length; a row with a reason is not usable.
        tokens: (n,) tokens that the model read.
        padded: (n,) the same with padding.
        truncated: (n,) whether the end of the text was cut off.
        reasons: why a text has no vector; None if it has one.
        back_offs: how often a batch was halved for lack of memory.
        text_tokens: (n,) tokens of the text itself, without prompt and special tokens.
        unknown: (n,) how many of ``text_tokens`` are the unknown token.
    """

    vectors: NDArray[np.float32]
    tokens: NDArray[np.int64]
    padded: NDArray[np.int64]
    truncated: NDArray[np.bool_]
    reasons: list[str | None]
    back_offs: int
    text_tokens: NDArray[np.int64]
    unknown: NDArray[np.int64]


class Model:
    """A tokenizer and an engine on one device. ``share`` is the part of ``batch_tokens`` that fits in memory."""

    def __init__(self, spec: ModelSpec, folder: str, device: str = "cpu", threads: int = 1) -> None:
        torch.set_num_threads(threads)
        self.tokenizer = load_tokenizer(folder)
        config = load_config(folder).get_text_config()
        self.width, self.share = int(config.hidden_size), 1.0
        self.tokens = int(config.vocab_size)
        self.unknown = (
            self.tokenizer.pad_token_id if self.tokenizer.unk_token_id is None else self.tokenizer.unk_token_id
        )
        self.head = read_head(Path(folder))
        self.run: Engine
        if spec.engine == "torch":
            self.run = torch_engine(folder, device, spec.precision)
        elif spec.engine == "onnx":
            self.run = onnx_engine(folder, threads)
        else:
            self.run = openvino_engine(folder, threads)


def load_model(spec: ModelSpec, folder: str, device: str = "cpu", threads: int = 1) -> tuple[Model, bool]:
    """(model, whether it had to be loaded). A process caches one model until it loads another.

    Raises:
        InputError: the folder is missing on this machine, or its files differ from those on the driver.
    """
    key = (*spec.model_key, device, threads)
    if key in _LOADED:
        return _LOADED[key], False
    if not Path(folder).is_dir():
        raise InputError(f"model folder {folder} is missing on this machine: put it on storage that all nodes can read")
    if digest(Path(folder)) != spec.files:
        raise InputError(f"model folder {folder} differs between driver and executor: use the same folder on both")
    _LOADED.clear()  # one model per worker: two do not fit on a GPU
    _LOADED[key] = Model(spec, folder, device, threads)
    return _LOADED[key], True


@dataclass(frozen=True)
class _Pieces:
    """Tokenised texts: ``rows`` of token ids, one or more per text, and for each row the index of its ``text``."""

    rows: list[list[int]]
    text: NDArray[np.int64]
    truncated: NDArray[np.bool_]


class Encoder:
    """A loaded model with the settings of a ``ModelSpec``: prompt, pooling, length, dense head."""

    def __init__(self, spec: ModelSpec, model: Model | None = None, padding_side: str = "right") -> None:
        self.spec, self.model, self._left = spec, model or Model(spec, spec.folder), padding_side == "left"
        self._width = self.model.width * len(spec.pooling.split("+"))
        check_widths(Path(spec.folder), self.model.head, self._width)
        tokenizer = self.model.tokenizer
        self._prompt = np.array(tokenizer(spec.prepared(""), add_special_tokens=False)["input_ids"], np.int64)
        self._special = np.array(tokenizer("")["input_ids"], np.int64)  # special tokens around each piece
        self._unpooled = 0 if spec.include_prompt else prompt_length(self.model.tokenizer, spec)

    def encode(self, texts: Sequence[str], batch_tokens: int = 1024) -> Encoded:
        """Encode in batches of equal padded length with at most ``batch_tokens`` = length × texts per forward pass.

        Results are in the order of ``texts``. On the CPU the bits of a vector depend only on its text, not on its batch
        or ``batch_tokens``. If memory runs out, the batch is halved; a text that does not fit in a batch of one gets a
        reason instead of a vector.
        """
        if not texts:
            raise ValueError("nothing to encode")
        pieces = self._tokenize(texts)
        lengths = np.array([len(row) for row in pieces.rows])
        padded = np.minimum(-(-lengths // PADDING) * PADDING, self.spec.max_length)
        starts = np.flatnonzero(np.diff(pieces.text, prepend=-1))
        unpooled = np.zeros_like(lengths)
        unpooled[starts] = np.minimum(self._unpooled, lengths[starts])  # only the first piece has the prompt
        pooled, back_offs = self._pool_all(pieces.rows, unpooled, padded, batch_tokens)
        tokens, padded_tokens = np.add.reduceat(lengths, starts), np.add.reduceat(padded, starts)
        if len(starts) < len(lengths):  # a long text is the mean of its pieces, weighted by their tokens
            weights = lengths - unpooled
            pooled = np.add.reduceat(pooled * weights[:, None].astype(np.float32), starts)
            if self.model.head:  # its biases were trained on means, not on sums
                pooled /= np.add.reduceat(weights, starts)[:, None].astype(np.float32)
        with np.errstate(invalid="ignore"):
            vectors = unit_rows(apply_head(self.model.head, pooled)[:, : self.spec.dimension])
        states = zip(np.isfinite(vectors).all(1) & vectors.any(1), np.isneginf(pooled[:, 0]), strict=True)  # type: ignore
        reasons = [None if usable else OUT_OF_MEMORY if too_large else NOT_FINITE for usable, too_large in states]
        text_tokens, unknown = self._count_unknown(pieces.rows, lengths, starts)
        return Encoded(vectors, tokens, padded_tokens, pieces.truncated, reasons, back_offs, text_tokens, unknown)

    def _count_unknown(
        self, rows: list[list[int]], lengths: NDArray[np.int64], starts: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(n,) tokens of each text itself, and (n,) how many of them are the unknown token."""
        token = self.model.tokenizer.unk_token_id
        text_tokens = np.maximum(np.add.reduceat(lengths - len(self._special), starts) - len(self._prompt), 0)
        if token is None:  # a byte-level tokenizer knows every text
            return text_tokens, np.zeros_like(text_tokens)
        ids = np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum()))
        unknown = np.add.reduceat((ids == token).astype(np.int64), np.cumsum(lengths) - lengths)
        unknown -= np.count_nonzero(self._special == token)  # GPT-2 ends a text with its unknown token
        unknown = np.add.reduceat(unknown, starts) - np.count_nonzero(self._prompt == token)
        return text_tokens, np.clip(unknown, 0, text_tokens)

    def _tokenize(self, texts: Sequence[str]) -> _Pieces:
        limit, max_pieces = self.spec.max_length, MAX_PIECES if self.spec.long_text == "chunk" else 1
        prompted = [self.spec.prepared(text) for text in texts]
        cap = CHARS_PER_TOKEN * limit * max_pieces
        encoding = self.model.tokenizer(
            [text[:cap] for text in prompted],
            truncation=True,
            max_length=limit,
            return_overflowing_tokens=max_pieces > 1,
            return_attention_mask=False,
        )
        rows = [row or [self.model.tokenizer.pad_token_id] for row in encoding["input_ids"]]
        if len(self.model.tokenizer) > self.model.tokens:  # special tokens without a row in the model
            rows = [[token if token < self.model.tokens else self.model.unknown for token in row] for row in rows]
        cut = np.array([len(text) > cap for text in prompted])
        if max_pieces == 1:
            return _Pieces(rows, np.arange(len(texts)), cut | [bool(e.overflowing) for e in encoding.encodings])
        text = np.array(encoding["overflow_to_sample_mapping"])
        position = np.arange(len(text)) - np.searchsorted(text, text)  # of a piece within its text
        pieces = np.flatnonzero(position < max_pieces)
        cut[text[position >= max_pieces]] = True
        return _Pieces([rows[piece] for piece in pieces], text[pieces], cut)

    def _pool_all(
        self, rows: list[list[int]], unpooled: NDArray[np.int64], padded: NDArray[np.int64], batch_tokens: int
    ) -> tuple[NDArray[np.float32], int]:
        """((n, d) pooled vectors, how often a batch was halved), longest rows first, so that memory peaks early.

        All rows of a batch have the same padded length. On the CPU the bits of a vector then depend only on its text:
        the engines' products depend on the padded length, but not on the other rows.
        """
        pooled = np.empty((len(rows), self._width), np.float32)
        back_offs, self.model.share = 0, min(1.0, 2 * self.model.share)  # memory may be free again
        for length in np.unique(padded)[::-1].tolist():
            waiting = np.flatnonzero(padded == length)
            while len(waiting):
                batch_size = max(1, int(batch_tokens * self.model.share) // length)
                batches = -(-len(waiting) // batch_size)  # of even size: a small rest would be slow
                batch, waiting = np.split(waiting, [-(-len(waiting) // batches)])
                pooled[batch], halvings = self._pool([rows[row] for row in batch], unpooled[batch], length)
                back_offs += halvings
                self.model.share /= 2**halvings
        return pooled, back_offs

    def _pool(self, rows: list[list[int]], unpooled: NDArray[np.int64], length: int) -> tuple[NDArray[np.float32], int]:
        """((n, d) pooled vectors, how often the batch was halved); a row that does not fit alone becomes −∞."""
        try:
            return self._forward(rows, unpooled, length), 0
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(rows) == 1:
            return np.full((1, self._width), -np.inf, np.float32), 0
        half = len(rows) // 2
        first, first_halvings = self._pool(rows[:half], unpooled[:half], length)
        second, second_halvings = self._pool(rows[half:], unpooled[half:], length)
        return np.concatenate([first, second]), 1 + max(first_halvings, second_halvings)

    def _forward(self, rows: list[list[int]], unpooled: NDArray[np.int64], length: int) -> NDArray[np.float32]:
        ids = np.full((len(rows), length), self.model.tokenizer.pad_token_id, np.int64)
        mask = np.zeros_like(ids)
        for i, row in enumerate(rows):
            columns = slice(length - len(row), None) if self._left else slice(len(row))
            ids[i, columns], mask[i, columns] = row, 1
        hidden = self.model.run(ids, mask)
        skipped = torch.from_numpy(unpooled).to(hidden.device) if unpooled.any() else None
        attention = torch.from_numpy(mask).to(hidden.device)
        return pool(hidden, attention, self.spec.pooling, skipped).float().cpu().numpy()


def prompt_length(tokenizer: Any, spec: ModelSpec) -> int:
    """Number of prompt tokens that sentence-transformers does not pool: special tokens before the prompt, such as
    [CLS], count; the special token after it does not.

    Raises:
        UsageError: the token that ends a text has no role, and releases of sentence-transformers differ in whether it
            counts.
    """
    if not spec.role_prompt:
        return 0
    encoding = tokenizer(
        spec.prepared("").strip(), truncation=True, max_length=spec.max_length, return_special_tokens_mask=True
    )
    ids = encoding["input_ids"]
    has_end = bool(ids) and ids[-1] in tokenizer.all_special_ids
    if ids and encoding["special_tokens_mask"][-1] and not has_end:
        raise UsageError(
            f"model folder {spec.folder}: include_prompt is false, but the length of the prompt is ambiguous: "
            f"{tokenizer.convert_ids_to_tokens(ids[-1])} ends each text and tokenizer_config.json gives it no role; "
            "name it there as sep_token or eos_token, or set include_prompt to true"
        )
    return len(ids) - has_end


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: str, skipped: torch.Tensor | None = None) -> torch.Tensor:
    """Pool (n, t, d) token vectors to (n, d), given their (n, t) mask with padding on either side.

    Poolings joined by ``+`` are concatenated: (n, d · poolings). The first ``skipped`` (n,) tokens of a row are not
    pooled. ``weighted_mean`` weights the i-th token by i, for decoders, whose later tokens have read more (SGPT:
    Muennighoff, 2022).
    """
    pooled_mask = mask if skipped is None else mask * (mask.cumsum(1) > skipped[:, None])
    parts = [_pooled(hidden, mask, pooled_mask, part) for part in pooling.split("+")]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _pooled(hidden: torch.Tensor, mask: torch.Tensor, pooled_mask: torch.Tensor, pooling: str) -> torch.Tensor:
    rows = torch.arange(len(hidden), device=hidden.device)
    if pooling == "cls":
        return hidden[rows, pooled_mask.argmax(1)]
    if pooling == "last_token":
        return hidden[rows, mask.shape[1] - 1 - pooled_mask.flip(1).argmax(1)]
    if pooling == "max":
        return hidden.masked_fill(pooled_mask.unsqueeze(-1) == 0, -torch.inf).amax(1)
    weights = pooled_mask * mask.cumsum(1) if pooling == "weighted_mean" else pooled_mask
    weights = weights.unsqueeze(-1).to(hidden.dtype)
    total = weights.sum(1)
    return (hidden * weights).sum(1) / (total.sqrt() if pooling == "mean_sqrt_len" else total)


def is_out_of_memory(error: Exception) -> bool:
    """Whether the GPU or this machine ran out of memory, by the error's type or an engine's message."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in ("out of memory", "allocate memory", "bad_alloc"))
