"""Texts to unit vectors with a transformer. Imports torch: import this module inside UDF bodies only."""

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
"""Texts are padded to a multiple of this many tokens: few enough to waste little, many enough to fill batches."""

CHARS_PER_TOKEN = 10
"""More than any language needs: what lies beyond cannot be reached, and a 10 MB text must not be tokenised."""

MAX_PIECES = 32
"""Pieces that a long text is cut into at most, with ``long_text = "chunk"``."""

NOT_FINITE = "the model gave no finite vector for this text"

OUT_OF_MEMORY = "this text alone does not fit in memory"

_LOADED: dict[tuple[object, ...], "Model"] = {}


@dataclass(frozen=True)
class Encoded:
    """What became of n texts. ``reasons`` says why a text has no vector (its row is then useless), None where it has
    one.

    ``tokens`` (n,) counts what the model read, ``padded`` (n,) the same with padding, ``truncated`` (n,) whether the
    end of the text was left out. ``text_tokens`` (n,) are those of the text itself, without prompt and special tokens,
    ``unknown`` (n,) how many of them the tokenizer has no token for.
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
    """A tokenizer and an engine on one device. ``share`` is the part of ``batch_tokens`` that fits in its memory."""

    def __init__(self, spec: ModelSpec, folder: str, device: str = "cpu", threads: int = 1) -> None:
        torch.set_num_threads(threads)
        self.tokenizer = load_tokenizer(folder)
        shape = load_config(folder).get_text_config()
        self.width, self.share = int(shape.hidden_size), 1.0
        self.tokens = int(shape.vocab_size)
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
    """The model of this process, and whether it had to be loaded: it is kept until another one is asked for.

    Raises:
        InputError: the folder is missing on this machine, or holds other files than the driver saw.
    """
    key = (*spec.model_key, device, threads)
    if key in _LOADED:
        return _LOADED[key], False
    if not Path(folder).is_dir():
        raise InputError(f"model folder {folder} is not there on this machine: put it on storage that all nodes see")
    if digest(Path(folder)) != spec.files:
        raise InputError(f"model folder {folder} differs between driver and executor: ship one and the same folder")
    _LOADED.clear()  # one model per worker: a second copy is what exhausts a GPU
    _LOADED[key] = Model(spec, folder, device, threads)
    return _LOADED[key], True


@dataclass(frozen=True)
class _Pieces:
    """Tokenised texts: ``rows`` of ids, one or several a text, and the place of the text that each is of."""

    rows: list[list[int]]
    text: NDArray[np.int64]
    truncated: NDArray[np.bool_]


class Encoder:
    """How texts are to be encoded, and the model that does it."""

    def __init__(self, spec: ModelSpec, model: Model | None = None, padding_side: str = "right") -> None:
        self.spec, self.model, self._left = spec, model or Model(spec, spec.folder), padding_side == "left"
        self._width = self.model.width * len(spec.pooling.split("+"))
        check_widths(Path(spec.folder), self.model.head, self._width)
        tokenizer = self.model.tokenizer
        self._prompt = np.array(tokenizer(spec.prepared(""), add_special_tokens=False)["input_ids"], np.int64)
        self._frame = np.array(tokenizer("")["input_ids"], np.int64)  # special tokens around each piece
        self._left_out = 0 if spec.include_prompt else prompt_length(self.model.tokenizer, spec)

    def encode(self, texts: Sequence[str], batch_tokens: int = 1024) -> Encoded:
        """Encode in batches of equal length, ``batch_tokens`` = length × count per forward pass; in the order of
        ``texts``.

        On the CPU the vector of a text has the same bits whatever the batch, its neighbours and ``batch_tokens``.
        Where memory runs out batches are halved, down to one text, which then has a reason instead of a vector.
        """
        if not texts:
            raise ValueError("nothing to encode")
        pieces = self._tokenize(texts)
        lengths = np.array([len(row) for row in pieces.rows])
        padded = np.minimum(-(-lengths // PADDING) * PADDING, self.spec.max_length)
        starts = np.flatnonzero(np.diff(pieces.text, prepend=-1))
        left_out = np.zeros_like(lengths)
        left_out[starts] = np.minimum(self._left_out, lengths[starts])  # a prompt is in the first piece alone
        pooled, back_offs = self._pool_all(pieces.rows, left_out, padded, batch_tokens)
        tokens, read = np.add.reduceat(lengths, starts), np.add.reduceat(padded, starts)
        if len(starts) < len(lengths):  # a long text is the mean of its pieces by their tokens
            counted = lengths - left_out
            pooled = np.add.reduceat(pooled * counted[:, None].astype(np.float32), starts)
            if self.model.head:  # its biases know the length of a mean
                pooled /= np.add.reduceat(counted, starts)[:, None].astype(np.float32)
        with np.errstate(invalid="ignore"):
            vectors = unit_rows(apply_head(self.model.head, pooled)[:, : self.spec.dimension])
        states = zip(np.isfinite(vectors).all(1) & vectors.any(1), np.isneginf(pooled[:, 0]), strict=True)  # type: ignore
        reasons = [None if good else OUT_OF_MEMORY if too_large else NOT_FINITE for good, too_large in states]
        of_text, unknown = self._count_unknown(pieces.rows, lengths, starts)
        return Encoded(vectors, tokens, read, pieces.truncated, reasons, back_offs, of_text, unknown)

    def _count_unknown(
        self, rows: list[list[int]], lengths: NDArray[np.int64], starts: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(tokens of each text itself, how many of them are the unknown token)."""
        token = self.model.tokenizer.unk_token_id
        of_text = np.maximum(np.add.reduceat(lengths - len(self._frame), starts) - len(self._prompt), 0)
        if token is None:  # every text has tokens, down to its bytes
            return of_text, np.zeros_like(of_text)
        ids = np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum()))
        unknown = np.add.reduceat((ids == token).astype(np.int64), np.cumsum(lengths) - lengths)
        unknown -= np.count_nonzero(self._frame == token)  # GPT-2 has one token for the end and the unknown
        of_texts = np.add.reduceat(unknown, starts) - np.count_nonzero(self._prompt == token)
        return of_text, np.clip(of_texts, 0, of_text)

    def _tokenize(self, texts: Sequence[str]) -> _Pieces:
        limit, most = self.spec.max_length, MAX_PIECES if self.spec.long_text == "chunk" else 1
        prompted = [self.spec.prepared(text) for text in texts]
        cap = CHARS_PER_TOKEN * limit * most
        found = self.model.tokenizer(
            [text[:cap] for text in prompted],
            truncation=True,
            max_length=limit,
            return_overflowing_tokens=most > 1,
            return_attention_mask=False,
        )
        rows = [row or [self.model.tokenizer.pad_token_id] for row in found["input_ids"]]
        if len(self.model.tokenizer) > self.model.tokens:  # it has special tokens that its model has not
            rows = [[token if token < self.model.tokens else self.model.unknown for token in row] for row in rows]
        cut = np.array([len(text) > cap for text in prompted])
        if most == 1:
            return _Pieces(rows, np.arange(len(texts)), cut | [bool(e.overflowing) for e in found.encodings])
        text = np.array(found["overflow_to_sample_mapping"])
        place = np.arange(len(text)) - np.searchsorted(text, text)  # of a piece within its text
        kept = np.flatnonzero(place < most)
        cut[text[place >= most]] = True
        return _Pieces([rows[piece] for piece in kept], text[kept], cut)

    def _pool_all(
        self, rows: list[list[int]], left_out: NDArray[np.int64], padded: NDArray[np.int64], batch_tokens: int
    ) -> tuple[NDArray[np.float32], int]:
        """(pooled vectors (n, d), how often a batch was halved), longest rows first, so that memory peaks at once and
        not at the end.

        Only rows of one padded length meet. On the CPU a vector then depends on its text alone, to the last bit: the
        other rows of a batch change nothing in the engines' products, but another padded length does.
        """
        pooled = np.empty((len(rows), self._width), np.float32)
        back_offs, self.model.share = 0, min(1.0, 2 * self.model.share)  # memory may be free again
        for length in np.unique(padded)[::-1].tolist():
            places = np.flatnonzero(padded == length)
            while len(places):
                most = max(1, int(batch_tokens * self.model.share) // length)
                batches = -(-len(places) // most)  # of even size: a small rest would be slow
                batch, places = np.split(places, [-(-len(places) // batches)])
                pooled[batch], halved = self._pool([rows[place] for place in batch], left_out[batch], length)
                back_offs += halved
                self.model.share /= 2**halved
        return pooled, back_offs

    def _pool(self, rows: list[list[int]], left_out: NDArray[np.int64], length: int) -> tuple[NDArray[np.float32], int]:
        """(n, d) and how often it had to be halved; a row that does not fit by itself becomes −∞."""
        try:
            return self._forward(rows, left_out, length), 0
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(rows) == 1:
            return np.full((1, self._width), -np.inf, np.float32), 0
        half = len(rows) // 2
        first, deeper = self._pool(rows[:half], left_out[:half], length)
        second, again = self._pool(rows[half:], left_out[half:], length)
        return np.concatenate([first, second]), 1 + max(deeper, again)

    def _forward(self, rows: list[list[int]], left_out: NDArray[np.int64], length: int) -> NDArray[np.float32]:
        ids = np.full((len(rows), length), self.model.tokenizer.pad_token_id, np.int64)
        mask = np.zeros_like(ids)
        for i, row in enumerate(rows):
            place = slice(length - len(row), None) if self._left else slice(len(row))
            ids[i, place], mask[i, place] = row, 1
        hidden = self.model.run(ids, mask)
        skipped = torch.from_numpy(left_out).to(hidden.device) if left_out.any() else None
        read = torch.from_numpy(mask).to(hidden.device)
        return pool(hidden, read, self.spec.pooling, skipped).float().cpu().numpy()


def prompt_length(tokenizer: Any, spec: ModelSpec) -> int:
    """Tokens of a prompt as sentence-transformers leaves them out of pooling: with what stands before it, such as
    [CLS], without what follows it.

    Raises:
        UsageError: the token that ends a text has no role, so releases of sentence-transformers differ in whether it
            counts.
    """
    if not spec.role_prompt:
        return 0
    found = tokenizer(
        spec.prepared("").strip(), truncation=True, max_length=spec.max_length, return_special_tokens_mask=True
    )
    ids = found["input_ids"]
    ends = bool(ids) and ids[-1] in tokenizer.all_special_ids
    if ids and found["special_tokens_mask"][-1] and not ends:
        raise UsageError(
            f"model folder {spec.folder}: include_prompt is false, and how long the prompt is cannot be told: "
            f"{tokenizer.convert_ids_to_tokens(ids[-1])} ends each text and tokenizer_config.json gives it no role; "
            "name it there as sep_token or eos_token, or set include_prompt to true"
        )
    return len(ids) - ends


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: str, left_out: torch.Tensor | None = None) -> torch.Tensor:
    """(n, t, d) token vectors and their (n, t) mask, padded on either side, to (n, d), or side by side where several
    poolings are joined by ``+``. ``left_out``: (n,) first tokens of each row that are not pooled.

    ``weighted_mean`` counts the i-th token i times, for decoders, whose later tokens have read more (SGPT: Muennighoff,
    2022).
    """
    counted = mask if left_out is None else mask * (mask.cumsum(1) > left_out[:, None])
    parts = [_pooled(hidden, mask, counted, part) for part in pooling.split("+")]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _pooled(hidden: torch.Tensor, mask: torch.Tensor, counted: torch.Tensor, pooling: str) -> torch.Tensor:
    rows = torch.arange(len(hidden), device=hidden.device)
    if pooling == "cls":
        return hidden[rows, counted.argmax(1)]
    if pooling == "last_token":
        return hidden[rows, mask.shape[1] - 1 - counted.flip(1).argmax(1)]
    if pooling == "max":
        return hidden.masked_fill(counted.unsqueeze(-1) == 0, -torch.inf).amax(1)
    weights = (counted * mask.cumsum(1) if pooling == "weighted_mean" else counted).unsqueeze(-1).to(hidden.dtype)
    number = weights.sum(1)
    return (hidden * weights).sum(1) / (number.sqrt() if pooling == "mean_sqrt_len" else number)


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, of the GPU or of this machine, in whatever words the engine has for it."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in ("out of memory", "allocate memory", "bad_alloc"))
