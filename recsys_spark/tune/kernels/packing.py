"""Packed rows of texts for language modelling: whole texts side by side, none of which sees another."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IGNORED = -100
"""Label of a token that is not predicted, as in transformers."""

_MASKED, _RANDOM = 0.8, 0.9  # of the chosen tokens: 80 % become the mask, 10 % a random token, 10 % stay

Tokens = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Text:
    """Tokens of one text. ``words``: the word of each token, in ascending order; -1 for special tokens and the
    prompt, which are never predicted."""

    ids: Tokens
    words: Tokens


@dataclass(frozen=True, eq=False)
class PackedRows:
    """(n, l) arrays of n rows. ``segments``: the text of a token, counted from 1 within its row; 0 for padding.
    ``positions``: of the token within its text. ``labels``: the token to predict, or ``IGNORED``."""

    ids: Tokens
    labels: Tokens
    segments: Tokens
    positions: Tokens

    def sees(self, causal: bool) -> NDArray[np.bool_]:
        """(n, l, l) whether a token sees another: those of its own text; if ``causal``, only itself and earlier ones.
        Padding sees padding, since attention to nothing is not a number."""
        same = self.segments[:, :, None] == self.segments[:, None, :]
        return np.tril(same) if causal else same


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows of texts whose lengths sum to at most ``capacity``. In their order, each text goes to the row with the
    least room that is enough (best fit), else to a new one."""
    rows: list[list[int]] = []
    by_room: list[list[int]] = [[] for _ in range(capacity + 1)]
    rooms = 0  # bit r is set if a row has room for r more tokens
    for text, length in enumerate(lengths):
        enough = rooms >> length << length
        if enough:
            room = (enough & -enough).bit_length() - 1
            row = by_room[room].pop()
            if not by_room[room]:
                rooms ^= 1 << room
        else:
            room, row = capacity, len(rows)
            rows.append([])
        rows[row].append(text)
        by_room[room - length].append(row)
        rooms |= 1 << (room - length)
    return rows


def lay_out(rows: Sequence[Sequence[tuple[Tokens, Tokens]]], padding: int) -> PackedRows:
    """Rows of (ids, labels) of texts as arrays, as long as the longest row."""
    length = max(sum(len(ids) for ids, _ in row) for row in rows)
    fills = {"ids": padding, "labels": IGNORED, "segments": 0, "positions": 0}
    arrays = {name: np.full((len(rows), length), value, np.int64) for name, value in fills.items()}
    for number, row in enumerate(rows):
        start = 0
        for segment, (ids, labels) in enumerate(row, 1):
            place = (number, slice(start, start + len(ids)))
            arrays["ids"][place], arrays["labels"][place] = ids, labels
            arrays["segments"][place], arrays["positions"][place] = segment, np.arange(len(ids))
            start += len(ids)
    return PackedRows(**arrays)


def mask_words(
    text: Text, share: float, mask: int, vocabulary: Tokens, rng: np.random.Generator
) -> tuple[Tokens, Tokens]:
    """(ids, labels) of a text with ``share`` of its words masked, at least one. All tokens of such a word are
    predicted; 80 % of them become ``mask``, 10 % a random token of ``vocabulary``, 10 % stay (Devlin et al., NAACL
    2019, with its later masking of whole words)."""
    words = np.unique(text.words[text.words >= 0])
    chosen = rng.choice(words, max(1, round(share * len(words))), replace=False) if len(words) else words
    predicted = np.isin(text.words, chosen)
    draw = rng.random(len(text.ids))
    ids = np.where(predicted & (draw < _MASKED), mask, text.ids)
    replaced = predicted & (draw >= _MASKED) & (draw < _RANDOM)
    ids[replaced] = rng.choice(vocabulary, int(replaced.sum()))
    return ids, np.where(predicted, text.ids, IGNORED)


def next_tokens(text: Text) -> tuple[Tokens, Tokens]:
    """(ids, labels) of a text in which each token predicts the next one, if that belongs to a word."""
    labels = np.full(len(text.ids), IGNORED)
    labels[:-1] = np.where(text.words[1:] >= 0, text.ids[1:], IGNORED)
    return text.ids, labels
