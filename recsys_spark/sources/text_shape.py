"""Detect the shape of a text file from its beginning: header row, quotes, records of several lines.

Spark reads every file of a source with the same options, takes the columns of all from one file and checks the others
against it. Exports of real systems differ from month to month. So files are grouped by shape, and each group is read
with its own options.
"""

import codecs
import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

_OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive (or an Excel workbook)",
    b"\x1f\x8b": "compressed with gzip, but not named .gz",
    b"BZh": "compressed with bzip2, but not named .bz2",
    b"\x28\xb5\x2f\xfd": "compressed with zstd, but not named .zst",
    b"\xfd7zXZ": "compressed with xz, which Spark cannot read",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a rar archive",
    b"PAR1": "a Parquet file",
    b"ORC": "an ORC file",
    b"Obj\x01": "an Avro file",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF": "a PDF document",
    b"SQLite format 3": "an SQLite database",
}

_WIDE = ("utf-16", "utf-32", "utf_16", "utf_32")

_SUFFIXES = {b"\x1f\x8b": (".gz",), b"BZh": (".bz2",), b"\x28\xb5\x2f\xfd": (".zst",)}

_LONG_FIELD = 100
"""Line breaks in one quoted field from which its quote counts as a stray one."""


@dataclass(frozen=True)
class Shape:
    """The header row as written, and reader options that were detected because the dataset file leaves them open, as
    pairs."""

    header: str | None = None
    options: tuple[tuple[str, str], ...] = ()


def not_text(path: str, head: bytes, encoding: str) -> str | None:
    """The reason why a file cannot be read as text; None if it can. ``head``: its first bytes as stored."""
    for magic, kind in _OTHER_FORMATS.items():
        if head.startswith(magic) and not path.lower().endswith(_SUFFIXES.get(magic, ())):
            return kind
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and not encoding.lower().startswith(_WIDE):
        return 'written in UTF-16: set options.encoding = "UTF-16"'
    packed = path.lower().endswith((".gz", ".bz2", ".zst", ".deflate", ".snappy", ".lz4"))
    beginning = head[:512]
    # A stray NUL belongs to its value; a file that is no text has many.
    if beginning.count(0) > len(beginning) / 50 and not packed and not encoding.lower().startswith(_WIDE):
        return "no text: it holds NUL bytes"
    return None


def csv_shape(head: bytes, whole: bool, given: Mapping[str, str]) -> Shape:
    """The shape of a CSV file. ``given``: Spark's options with names in lower case; they are never overruled.

    Quotes within quoted fields count as doubled (RFC 4180) unless the file escapes them by a backslash. Records may
    span lines if every record then has as many fields as the first one.
    """
    text = _decoded(head, given.get("encoding", given.get("charset", "utf-8")))
    sep, quote = given.get("sep", given.get("delimiter", ",")), given.get("quote", '"')
    options: dict[str, str] = {}
    if quote and "escape" not in given and not _escapes_by_backslash(text, sep, quote):
        options["escape"] = quote
    if "multiline" not in given:
        wide = given.get("encoding", "").lower().startswith(_WIDE)
        if wide or (quote and _spans_lines(text, whole, sep, quote, options.get("escape", given.get("escape")))):
            options["multiLine"] = "true"
    header = _first_line(text, given.get("comment")) if given.get("header", "").lower() == "true" else None
    return Shape(header, tuple(options.items()))


def json_shape(head: bytes, whole: bool, given: Mapping[str, str]) -> Shape:
    """The shape of a JSON file: one record per line, or one document over several lines."""
    if "multiline" in given:
        return Shape()
    text = _decoded(head, given.get("encoding", "utf-8")).strip()
    first = text.partition("\n")[0].strip()
    if _is_json(first):
        return Shape()
    if first in ("[", "{", "[{") or (whole and text.count("\n") and _is_json(text)):
        return Shape(options=(("multiLine", "true"),))
    return Shape()


def _decoded(head: bytes, encoding: str) -> str:
    try:
        return head.decode(encoding, "replace").removeprefix("\ufeff")
    except LookupError:  # an encoding that only Java knows
        return head.decode("latin-1")


def _first_line(text: str, comment: str | None) -> str:
    lines = (line.rstrip("\r") for line in text.split("\n"))
    return next((line for line in lines if line.strip() and not (comment and line.startswith(comment))), "")


def _escapes_by_backslash(text: str, sep: str, quote: str) -> bool:
    mark, other = re.escape(quote), rf"[^{re.escape(sep)}{re.escape(quote)}\r\n]"
    doubled = re.search(rf"{other}{mark}{mark}|{mark}{mark}{other}", text)
    return not doubled and re.search(rf"\\{mark}(?!{re.escape(sep)}|\r?\n|\Z)", text) is not None


def _spans_lines(text: str, whole: bool, sep: str, quote: str, escape: str | None) -> bool:
    if len(sep) != 1 or len(quote) != 1 or text.count(quote) < 2:
        return False
    doubled = escape == quote
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=sep, quotechar=quote, doublequote=doubled,
        escapechar=None if doubled else (escape or "\\")[:1],
        strict=True,
    )  # fmt: skip
    rows: list[list[str]] = []
    try:
        rows.extend(row for row in reader if row)
    except csv.Error as error:  # the end of head may cut a record off: no fault of the file
        if whole or "unexpected end" not in str(error):
            return False
    rows = rows if whole else rows[:-1]
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        return False
    breaks = [field.count("\n") for row in rows for field in row]
    return 0 < max(breaks) < _LONG_FIELD


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
