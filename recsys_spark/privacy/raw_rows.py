"""Ids within raw rows: JSON, lines of CSV, or whatever could not be parsed. Plain Python."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

SPACE = " \t\n\r\f\v"
"""What ingest trims off an id."""

_TOKEN = re.compile(r"\w+|\W")

_FIELD = re.compile(r"[,;|\t\r\n]+")


class RawNames:
    """Finds many ids in one pass over a text: a look-up per token, however many the ids are.

    An id counts as a value, a number or a key, and as a word of a longer text, which a malformed line is.
    """

    def __init__(self, ids: Mapping[str, Iterable[str]], *, quoted: bool = False) -> None:
        """``ids`` by kind. ``quoted``: only within quotation marks, for texts in which a short id is a common word."""
        self._names: dict[str, set[str]] = {}
        lengths: dict[str, set[int]] = {}
        for kind, names in ids.items():
            for name in names:
                for form in _quoted(name) if quoted else _forms(name):
                    self._names.setdefault(form, set()).add(f"{kind}:{name}")
                    lengths.setdefault(_TOKEN.findall(form[:1000])[0], set()).add(len(form))
        self._lengths = {token: sorted(found) for token, found in lengths.items()}

    def found_in_row(self, row: str | None) -> list[str]:
        """The ids, as ``kind:id``, that a raw row names."""
        found = set[str]()
        for leaf in leaves(row) if row is not None else ():
            found.update(self.found_in_text(leaf))
        return sorted(found)

    def found_in_text(self, text: str) -> Iterator[str]:
        """The ids, as ``kind:id``, that a text names."""
        for token in _TOKEN.finditer(text):
            start = token.start()
            known = self._lengths.get(token.group())
            if known is None or (start and _is_word(text[start - 1])):
                continue
            for length in known:
                names = self._names.get(text[start : start + length])
                if names and not _is_word(text[start + length : start + length + 1]):
                    yield from names


def possible_ids(row: str | None) -> set[str]:
    """Everything in a raw row that may be an id: whole values, fields of a line, words."""
    found = set[str]()
    for leaf in leaves(row) if row is not None else ():
        fields = [part.strip(SPACE) for part in (leaf, *_FIELD.split(leaf))]
        plain = [part[1:-1].replace('""', '"') for part in fields if part[:1] == part[-1:] == '"' and len(part) > 2]
        found.update(fields, [part.strip(SPACE) for part in plain], re.findall(r"\w+", leaf), leaf.split())
    return found - {""}


def leaves(row: Any) -> Iterator[str]:
    """Keys and values of a JSON document at any depth; a text that is none, as it is."""
    try:
        value = json.loads(row) if isinstance(row, str) else row
    except ValueError:
        value = {"": row}
    if isinstance(value, dict):
        for name, part in value.items():
            yield name
            yield from [part] if isinstance(part, str) else leaves(part)
    elif isinstance(value, list):
        for part in value:
            yield from [part] if isinstance(part, str) else leaves(part)
    else:
        yield str(value)


def _is_word(mark: str) -> bool:
    return mark.isalnum() or mark == "_"


def _forms(name: str) -> set[str]:
    """How an id may be written within a text, which may be JSON itself, or a line of CSV."""
    return {name, json.dumps(name)[1:-1], json.dumps(name, ensure_ascii=False)[1:-1], name.replace('"', '""')}


def _quoted(name: str) -> set[str]:
    """How a message within a JSON file quotes an id, in Python's way or in JSON's."""
    whole = {mark + form + mark for form in (name, *_forms(name), repr(name)[1:-1]) for mark in "'\""}
    return whole | {json.dumps(form, ensure_ascii=ascii)[1:-1] for form in whole for ascii in (True, False)}
