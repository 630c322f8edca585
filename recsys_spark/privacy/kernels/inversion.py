"""How many words of a text a linear probe recovers from its vector. Stronger attacks recover more (Morris et al., "Text
Embeddings Reveal (Almost) As Much As Text", 2023): this is a lower bound."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"[^\W\d_]{2,}|[一-鿿]")

_HAN = re.compile(r"[一-鿿]+")

_MOST_WORDS = 2000

_LEAST_TEXTS = 3
"""A word that fewer training texts have cannot be learned."""

_TRAINED_SHARE = 0.7

_RIDGE = 0.01
"""Ridge of the probe, as a share of the mean eigenvalue of the vectors."""


@dataclass(frozen=True)
class Recovery:
    """``share`` of the words of ``texts`` that the probe recovers, ``by_frequency`` without their vectors. ``trained``:
    texts that it learned from; ``words``: its vocabulary."""

    share: float
    by_frequency: float
    trained: int
    texts: int
    words: int


def words_of(text: str) -> set[str]:
    """The distinct words of a text in lower case; Chinese characters are words."""
    spaced = _HAN.sub(lambda han: " ".join(f" {mark} " for mark in han[0]), text.lower())
    return set(_WORD.findall(spaced))


def word_recovery(texts: Sequence[str], vectors: NDArray[np.floating]) -> Recovery | None:
    """Train a ridge probe from vector to words on the first part of the texts, and measure it on the others; None if
    there are too few texts.

    Of each text as many words are guessed as it has words of the vocabulary: the share of right guesses is the share of
    these words that are recovered.
    """
    trained = int(len(texts) * _TRAINED_SHARE)
    words_by_text = [words_of(text) for text in texts]
    counted = Counter(word for words in words_by_text[:trained] for word in words)
    usual = sorted((-number, word) for word, number in counted.items() if number >= _LEAST_TEXTS)[:_MOST_WORDS]
    place = {word: at for at, (_, word) in enumerate(usual)}
    if len(place) < 2 or trained in (0, len(texts)):
        return None
    present = np.zeros((len(texts), len(place)))
    for row, words in enumerate(words_by_text):
        present[row, [place[word] for word in words if word in place]] = 1.0
    share, tested = _share(present[trained:], _scores(vectors, present[:trained]))
    if not tested:
        return None
    frequency = np.tile(present[:trained].mean(axis=0), (len(texts) - trained, 1))
    return Recovery(share, _share(present[trained:], frequency)[0], trained, tested, len(place))


def _scores(vectors: NDArray[np.floating], present: NDArray[np.float64]) -> NDArray[np.float64]:
    """(tests, words) scores of the rows of ``vectors`` after those of ``present``."""
    trained = len(present)
    rows = vectors.astype(np.float64) - vectors[:trained].mean(axis=0)
    mean = present.mean(axis=0)
    gram = rows[:trained].T @ rows[:trained]
    ridge = _RIDGE * np.trace(gram) / len(gram) + np.finfo(np.float64).tiny
    weights = np.linalg.solve(gram + ridge * np.eye(len(gram)), rows[:trained].T @ (present - mean))
    return np.asarray(rows[trained:] @ weights + mean)


def _share(present: NDArray[np.float64], scores: NDArray[np.float64]) -> tuple[float, int]:
    """(mean share of right guesses, texts that have a word)."""
    numbers = present.sum(axis=1).astype(np.int64)
    ranks = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1, kind="stable")
    right = (present * (ranks < numbers[:, None])).sum(axis=1)
    has_words = numbers > 0
    return float((right[has_words] / numbers[has_words]).mean()) if has_words.any() else 0.0, int(has_words.sum())
