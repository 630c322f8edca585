"""Which texts may hold a personal value, for many texts at once: most hold none, and cost no more than this."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys_spark.privacy.kernels.number_spans import ANNOUNCED, LETTERED
from recsys_spark.privacy.kernels.word_spans import ADDRESS, EMAIL, NAME

NUMBERS, EMAILS, ADDRESSES, NAMES = 1, 2, 4, 8
"""What a text may hold."""

ANYTHING = NUMBERS | EMAILS | ADDRESSES | NAMES

_LEAST_DIGITS, _LEAST_ANNOUNCED, _IP_DIGITS, _IP_DOTS, _IP_COLONS = 9, 6, 4, 3, 2
"""Digits of the shortest number by itself, and after a word such as "phone"; digits, dots, colons of an IP address."""

_MOST_BETWEEN = 3
"""Blanks and marks of punctuation between two digits of one number."""

_DIGIT, _DOT, _COLON, _JOIN = 1, 2, 4, 8
"""Classes of bytes; all but colons and other marks join the digits of a number."""

_CLASSES = np.zeros(256, np.uint8)
_CLASSES[list(b"0123456789")] = _DIGIT | _JOIN
_CLASSES[list(" ()+-/–".encode())] = _JOIN
_CLASSES[ord(".")] = _DOT | _JOIN
_CLASSES[ord(":")] = _COLON

_ANNOUNCING = f"(?i:{ANNOUNCED})|{LETTERED}"

_WORDS = {EMAILS: EMAIL, ADDRESSES: ADDRESS, NAMES: NAME}


def candidates(texts: Sequence[str | None]) -> NDArray[np.uint8]:
    """(n,) of bits, NUMBERS and others; 0: the text holds no value. Null texts have 0."""
    column = pa.array(texts, pa.large_string())
    _, offsets, content = column.buffers()
    if content is None or not len(column):
        return np.zeros(len(column), np.uint8)
    ends = np.frombuffer(offsets, np.int64)[: len(column) + 1]
    digits, is_ip = _digits(np.frombuffer(content, np.uint8)[: ends[-1]], ends)
    short = np.flatnonzero((digits >= _LEAST_ANNOUNCED) & (digits < _LEAST_DIGITS) & ~is_ip)
    numbers = (digits >= _LEAST_DIGITS) | is_ip
    numbers[short] = _matches(column.take(pa.array(short)), _ANNOUNCING)
    flags = numbers * np.uint8(NUMBERS)
    worded = np.flatnonzero(_matches(column, "|".join(_WORDS.values())))
    few = column.take(pa.array(worded))
    for bit, pattern in _WORDS.items():
        flags[worded[_matches(few, pattern)]] |= bit
    return flags


def _matches(column: pa.Array, pattern: str) -> NDArray[np.bool_]:
    return np.asarray(pc.match_substring_regex(column, pattern).fill_null(False))


def _digits(content: NDArray[np.uint8], ends: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(n,) most digits of a text that belong to one number; (n,) whether it has the dots or colons of an IP address.

    Args:
        content: (bytes,) all texts one after the other, in UTF-8.
        ends: (n + 1,) where each text begins, and the last one ends.
    """
    classes, number = _CLASSES.take(content), len(ends) - 1
    _fold_wide(content, classes)
    places = np.flatnonzero((classes & (_DIGIT | _DOT | _COLON)) != 0)  # three times as fast on truth values
    most, is_ip = np.zeros(number, np.int64), np.zeros(number, bool)
    if not len(places):
        return most, is_ip
    kinds, owner = classes[places], np.repeat(np.arange(number), np.diff(np.searchsorted(places, ends)))
    is_colon = kinds == _COLON
    is_ip |= np.bincount(owner[is_colon], minlength=number) >= _IP_COLONS
    places, kinds, owner = places[~is_colon], kinds[~is_colon], owner[~is_colon]
    if not len(places):
        return most, is_ip
    gap = np.diff(places)
    joined = (gap <= _MOST_BETWEEN + 1) & (owner[1:] == owner[:-1])
    apart = np.flatnonzero(joined & (gap > 1))
    for step in range(1, _MOST_BETWEEN + 1):
        joined[apart] &= (gap[apart] <= step) | (classes[np.minimum(places[apart] + step, len(classes) - 1)] >= _JOIN)
    first = np.flatnonzero(np.concatenate([[True], ~joined]))
    digits = np.add.reduceat((kinds & _DIGIT).astype(np.int64), first)
    dots = np.add.reduceat((kinds & _DOT > 0).astype(np.int64), first)
    owner = owner[first]
    texts = np.flatnonzero(np.concatenate([[True], owner[1:] != owner[:-1]]))
    most[owner[texts]] = np.maximum.reduceat(digits, texts)
    is_ip[owner[(digits >= _IP_DIGITS) & (dots >= _IP_DOTS)]] = True
    return most, is_ip


def _fold_wide(content: NDArray[np.uint8], classes: NDArray[np.uint8]) -> None:
    """Count wide digits (U+FF10 to U+FF19, in UTF-8 EF BC 90 to EF BC 99) as digits."""
    lead = np.flatnonzero(content[:-2] == 0xEF)
    lead = lead[content[lead + 1] == 0xBC]
    is_digit = (content[lead + 2] >= 0x90) & (content[lead + 2] <= 0x99)
    for place in range(3):
        classes[lead[is_digit] + place] = _JOIN
    classes[lead[is_digit] + 2] = _DIGIT | _JOIN
