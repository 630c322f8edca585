"""List the data files of a source. The same list is read, counted, and compared with the last run.

Spark never lists a pattern or a folder: it reads the files named here. So it can neither skip a file that was counted
nor read one that was not.
"""

import json
import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote, urlparse

import pyarrow as pa
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from recsys_spark.errors import InputError, RetryError
from recsys_spark.errors.messages import is_transient, one_line
from recsys_spark.lake.jvm import list_files
from recsys_spark.sources.dataset_file import Source
from recsys_spark.sources.first_bytes import first_bytes

_WILDCARD = re.compile(r"(?<!\\)[*?\[{]")

_STREAM_LOG = "_spark_metadata"

_Entry = tuple[str, int, int]
"""Path, size in bytes, time of modification."""


@dataclass(frozen=True)
class SourceFile:
    """A data file: its path (never a pattern), size in bytes, and time of modification. ``base``: the folder below
    which folder names such as ``dt=2024-01-01`` are columns."""

    path: str
    size: int
    modified: int
    base: str

    @property
    def entry(self) -> str:
        """One line that changes whenever the file changes."""
        return f"{self.path} {self.size} {self.modified}"


_Match = tuple[SourceFile, list[str]]
"""A file, and its names below the part of the path that has no wildcard."""


def is_hidden(name: str) -> bool:
    """Whether Spark skips a file or folder of this name, as a marker or a file that is still being written."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name) or name.endswith("._COPYING_")


def pattern_of(glob: str) -> str:
    """The regular expression of a Hadoop glob: ``*`` and ``?`` stay within a name; ``[a-c]``, ``[^a]``, ``{a,b}``;
    a backslash takes the next character literally."""
    regex, groups, index = "", 0, 0
    while index < len(glob):
        mark, index = glob[index], index + 1
        if mark == "\\" and index < len(glob):
            regex, index = regex + re.escape(glob[index]), index + 1
        elif mark == "[" and (end := glob.find("]", index + 1)) > 0:
            within = glob[index:end].replace("\\", "\\\\").replace("[", "\\[")
            regex, index = f"{regex}[{'^' + within[1:] if within[0] in '!^' else within}]", end + 1
        elif mark == "{":
            regex, groups = regex + "(?:", groups + 1
        elif mark == "}" and groups:
            regex, groups = regex + ")", groups - 1
        else:
            regex += {"*": "[^/]*", "?": "[^/]"}.get(mark, "|" if mark == "," and groups else re.escape(mark))
    return regex + ")" * groups


def list_source(
    name: str,
    source: Source,
    data: str,
    session: Callable[[], SparkSession],
    remedy: str = "check --data, the folder that holds the sources",
) -> list[SourceFile]:
    """The data files of one source, sorted by path.

    ``session`` is called only for file systems that Arrow does not know. ``remedy``: for the message if there are none.

    Raises:
        InputError: the source does not exist, has no data file, holds no bytes, or is a table of another format.
        RetryError: the store does not answer.
    """
    path = f"{data}/{source.path}"
    try:
        matches = _matching(data, source.path, session)
        if not matches and _WILDCARD.search(source.path):  # a file may be called "log [1].csv"
            matches = _below(data, source.path.replace("\\", ""), session)
    except (OSError, pa.ArrowException, PySparkException) as error:
        kind = RetryError if is_transient(error) else InputError
        raise kind(f"source '{name}': {path} cannot be read: {one_line(error)}") from error
    _refuse_other_tables(name, path, matches)
    matches = _committed(matches, session)
    files = sorted((file for file, below in matches if not any(map(is_hidden, below))), key=lambda file: file.path)
    if not matches and _WILDCARD.search(source.path):
        raise InputError(f"source '{name}': no file matches {path}; {remedy}")
    if not matches:
        raise InputError(f"source '{name}': {path} does not exist; {remedy}")
    if not files and any(file.size for file, _ in matches):
        raise InputError(
            f"source '{name}': {path} has no data file: Spark skips files and folders whose names begin with '.' or "
            f"'_', such as {matches[0][0].path}; rename them"
        )
    if not sum(file.size for file in files):
        raise InputError(f"source '{name}': {path} is empty")
    return files


def _matching(data: str, path: str, session: Callable[[], SparkSession]) -> list[_Match]:
    """The files that match a path or pattern below ``data``, and all files in folders that match."""
    if not _WILDCARD.search(path):
        return _below(data, path.replace("\\", ""), session)
    parts = posixpath.normpath(path).split("/")
    plain = next(number for number, part in enumerate(parts) if _WILDCARD.search(part))
    folder = "/".join([data, *(part.replace("\\", "") for part in parts[:plain])])
    wanted = re.compile(f"({pattern_of('/'.join(parts[plain:]))})(?:/.*)?", re.DOTALL)
    matches = []
    for file, size, modified in _list(folder, session):
        below = file.removeprefix(folder).lstrip("/")
        if match := wanted.fullmatch(below):
            base = f"{folder}/{match[1]}"
            base = base.rpartition("/")[0] if base == file else base
            matches.append((SourceFile(file, size, modified, base), below.split("/")))
    return matches


def _below(data: str, path: str, session: Callable[[], SparkSession]) -> list[_Match]:
    """The file ``path``, or all files of the folder ``path``, with the names below it."""
    where = f"{data}/{posixpath.normpath(path)}" if path not in ("", ".") else data
    return [
        (SourceFile(file, size, modified, where), [name for name in file.removeprefix(where).split("/") if name])
        if file != where
        else (SourceFile(file, size, modified, where.rpartition("/")[0]), [where.rpartition("/")[2]])
        for file, size, modified in _list(where, session)
    ]


def _list(path: str, session: Callable[[], SparkSession]) -> Iterator[_Entry]:
    """The file ``path``, or all files below the folder ``path``; an empty folder is listed itself, with 0 bytes."""
    if not urlparse(path).scheme:
        return _list_with_arrow(LocalFileSystem(), path, path)
    try:
        filesystem, inner = FileSystem.from_uri(path)
    except pa.ArrowInvalid:
        return list_files(session(), path)
    return _list_with_arrow(filesystem, inner, path)


def _list_with_arrow(filesystem: FileSystem, inner: str, path: str) -> Iterator[_Entry]:
    info = filesystem.get_file_info(inner)
    if info.type == FileType.NotFound:
        return
    if info.is_file:
        yield path, info.size, info.mtime_ns
        return
    files = [info for info in filesystem.get_file_info(FileSelector(inner, recursive=True)) if info.is_file]
    for file in files:
        yield path + file.path.removeprefix(inner), file.size, file.mtime_ns
    if not files:
        yield path, 0, 0


def _refuse_other_tables(name: str, path: str, matches: list[_Match]) -> None:
    """Refuse Delta, Hudi and Iceberg tables: their folders keep files of old versions, in which deleted rows return."""
    markers = {"_delta_log": "Delta", ".hoodie": "Hudi"}
    for file, below in matches:
        kind = next((markers[part] for part in below if part in markers), None)
        if kind is None and len(below) > 1 and below[-2] == "metadata" and below[-1].endswith(".metadata.json"):
            kind = "Iceberg"
        if kind is not None:
            article = "an" if kind == "Iceberg" else "a"
            remedy = {"Delta": 'set format = "delta"', "Iceberg": 'set format = "iceberg"'}.get(
                kind, "read it with the connector of that format"
            )
            raise InputError(
                f"source '{name}': {path} is {article} {kind} table ({file.path}); its files also hold rows of old "
                f"versions. In the dataset file, {remedy}"
            )


def _committed(matches: list[_Match], session: Callable[[], SparkSession]) -> list[_Match]:
    """``matches`` without the files that a streaming query has not committed, according to the log next to them."""
    logs: dict[str, dict[str, SourceFile]] = {}
    for file, below in matches:
        if len(below) > 1 and below[-2] == _STREAM_LOG and below[-1].removesuffix(".compact").isdigit():
            logs.setdefault(file.path.rpartition(f"/{_STREAM_LOG}/")[0], {})[below[-1]] = file
    if not logs:
        return matches
    named = {path for batches in logs.values() for path in _files_in_log(batches, session)}
    return [
        (file, below)
        for file, below in matches
        if not any(file.path.startswith(f"{folder}/") for folder in logs) or _plain(file.path) in named
    ]


def _files_in_log(batches: dict[str, SourceFile], session: Callable[[], SparkSession]) -> set[str]:
    """The files that a log of batches names. Its newest compact entry holds all earlier ones."""
    numbers = {name: int(name.removesuffix(".compact")) for name in batches}
    first = max((number for name, number in numbers.items() if name.endswith(".compact")), default=0)
    named: set[str] = set()
    for name in sorted(batches, key=lambda name: numbers[name]):
        if numbers[name] > first or name.endswith(".compact") or not first:
            lines = first_bytes(batches[name].path, batches[name].size, session).decode("utf-8").splitlines()[1:]
            named |= {_plain(entry["path"]) for entry in map(json.loads, lines) if entry.get("action") == "add"}
    return named


def _plain(uri: str) -> str:
    return unquote(urlparse(uri).path) if urlparse(uri).scheme else uri
