"""A value to remove from a text: its kind and its place."""

import re
from collections.abc import Iterator
from typing import NamedTuple

KINDS = ("email", "account", "card", "id", "phone", "ip", "address", "name")
"""The kinds of values, in the order in which one that overlaps another takes precedence."""


class Span(NamedTuple):
    """``kind`` and the characters from ``start`` to ``end``, exclusive."""

    kind: str
    start: int
    end: int


_BEFORE = 32


def words_before(text: str, start: int) -> str:
    """The characters just before a value, in lower case."""
    return text[max(0, start - _BEFORE) : start].lower()


def group_spans(kind: str, pattern: re.Pattern[str], text: str) -> Iterator[Span]:
    """The first group of every match."""
    for match in pattern.finditer(text):
        yield Span(kind, *match.span(1))
