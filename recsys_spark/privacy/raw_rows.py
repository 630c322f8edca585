"""Find ids within raw rows: JSON, lines of CSV, or text that could not be parsed. Plain Python."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

SPACE = " \t\n\r\f\v"
"""The characters that ingest trims off an id."""

_TOKEN = re.compile(r"\w+|\W")

_FIELD = re.compile(r"[,;|\t\r\n]+")


class IdMatcher:
    """Finds many ids in one pass over a text: one look-up per token, however many ids there are.

    An id matches as a value, a number or a key, and as a word of a longer text, such as a malformed line.
    """

    def __init__(self, ids: Mapping[str, Iterable[str]], *, quoted: bool = False) -> None:
        """``ids`` by kind. ``quoted``: match within quotation marks only, for texts in which a short id is a common
        word."""
        self._ids_by_form: dict[str, set[str]] = {}
        lengths: dict[str, set[int]] = {}
        for kind, names in ids.items():
            for name in names:
                for form in _quoted(name) if quoted else _forms(name):
                    self._ids_by_form.setdefault(form, set()).add(f"{kind}:{name}")
                    lengths.setdefault(_TOKEN.findall(form[:1000])[0], set()).add(len(form))
        self._lengths = {token: sorted(sizes) for token, sizes in lengths.items()}

    def ids_in_row(self, row: str | None) -> list[str]:
        """The ids that a raw row holds, as sorted ``kind:id``."""
        ids = set[str]()
        for leaf in leaves(row) if row is not None else ():
            ids.update(self.ids_in_text(leaf))
        return sorted(ids)

    def ids_in_text(self, text: str) -> Iterator[str]:
        """The ids that a text holds, as ``kind:id``."""
        for token in _TOKEN.finditer(text):
            start = token.start()
            lengths = self._lengths.get(token.group())
            if lengths is None or (start and _is_word(text[start - 1])):
                continue
            for length in lengths:
                ids = self._ids_by_form.get(text[start : start + length])
                if ids and not _is_word(text[start + length : start + length + 1]):
                    yield from ids


def candidate_ids(row: str | None) -> set[str]:
    """Everything in a raw row that may be an id: whole values, fields of a line, words."""
    candidates = set[str]()
    for leaf in leaves(row) if row is not None else ():
        fields = [part.strip(SPACE) for part in (leaf, *_FIELD.split(leaf))]
        plain = [part[1:-1].replace('""', '"') for part in fields if part[:1] == part[-1:] == '"' and len(part) > 2]
        candidates.update(fields, [part.strip(SPACE) for part in plain], re.findall(r"\w+", leaf), leaf.split())
    return candidates - {""}


def leaves(row: Any) -> Iterator[str]:
    """Keys and values of a JSON document at any depth; a text that is not JSON, unchanged."""
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
    """The ways to write an id within a text that may itself be JSON or a line of CSV."""
    return {name, json.dumps(name)[1:-1], json.dumps(name, ensure_ascii=False)[1:-1], name.replace('"', '""')}


def _quoted(name: str) -> set[str]:
    """The ways in which a message within a JSON file quotes an id: as Python does, or as JSON does."""
    whole = {mark + form + mark for form in (name, *_forms(name), repr(name)[1:-1]) for mark in "'\""}
    return whole | {json.dumps(form, ensure_ascii=ascii)[1:-1] for form in whole for ascii in (True, False)}
