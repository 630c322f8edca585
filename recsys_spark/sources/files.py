"""List the data files of a source. This one list is what is read, what is counted and what "nothing new" is decided by.

Spark is never given a pattern or a folder to list: it reads the files named here. So it cannot leave one out that was
counted, nor read one that was not.
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
from recsys_spark.sources.dataset_file import Dataset, Source
from recsys_spark.sources.delta import delta_entries
from recsys_spark.sources.first_bytes import first_bytes

_MARK = re.compile(r"(?<!\\)[*?\[{]")

_STREAM_LOG = "_spark_metadata"

_Listed = tuple[str, int, int]
"""Path, bytes, time of modification."""


@dataclass(frozen=True)
class SourceFile:
    """A data file: its path as Spark takes it (never a pattern), bytes, time of modification, and the folder below
    which names of folders such as ``dt=2024-01-01`` are columns."""

    path: str
    size: int
    modified: int
    base: str

    @property
    def entry(self) -> str:
        """One line that changes when the file does."""
        return f"{self.path} {self.size} {self.modified}"


_Found = tuple[SourceFile, list[str]]
"""A file, and the names below the part of the path without a pattern."""


def list_sources(dataset: Dataset, data: str, session: Callable[[], SparkSession]) -> dict[str, list[SourceFile]]:
    """The data files of every source below ``data``, in the order of their paths.

    ``session`` is called only where nothing but Spark knows the file system.

    Raises:
        InputError: a source does not exist, has no data file, or holds no bytes.
    """
    return {name: _files_of(name, source, data, session) for name, source in dataset.sources.items()}


def is_hidden(name: str) -> bool:
    """Whether Spark takes a file or folder of this name for a marker or for a file that is still being written."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name) or name.endswith("._COPYING_")


def pattern_of(glob: str) -> str:
    """The regular expression of a Hadoop glob: ``*`` and ``?`` stay within a name; ``[a-c]``, ``[^a]``, ``{a,b}``;
    a backslash takes the next character literally."""
    told, groups, place = "", 0, 0
    while place < len(glob):
        mark, place = glob[place], place + 1
        if mark == "\\" and place < len(glob):
            told, place = told + re.escape(glob[place]), place + 1
        elif mark == "[" and (end := glob.find("]", place + 1)) > 0:
            within = glob[place:end].replace("\\", "\\\\").replace("[", "\\[")
            told, place = f"{told}[{'^' + within[1:] if within[0] in '!^' else within}]", end + 1
        elif mark == "{":
            told, groups = told + "(?:", groups + 1
        elif mark == "}" and groups:
            told, groups = told + ")", groups - 1
        else:
            told += {"*": "[^/]*", "?": "[^/]"}.get(mark, "|" if mark == "," and groups else re.escape(mark))
    return told + ")" * groups


def _files_of(name: str, source: Source, data: str, session: Callable[[], SparkSession]) -> list[SourceFile]:
    path = f"{data}/{source.path}"
    if source.format == "delta":
        return [SourceFile(*entry, base=path) for entry in delta_entries(name, path)]
    try:
        found = _matching(data, source.path, session)
        if not found and _MARK.search(source.path):  # a file may be called "log [1].csv"
            found = _below(data, source.path.replace("\\", ""), session)
    except (OSError, pa.ArrowException, PySparkException) as error:
        kind = RetryError if is_transient(error) else InputError
        raise kind(f"source '{name}': {path} cannot be read: {one_line(error)}") from error
    _refuse_other_tables(name, path, found)
    found = _committed(found, session)
    shown = sorted((file for file, below in found if not any(map(is_hidden, below))), key=lambda file: file.path)
    if not found and _MARK.search(source.path):
        raise InputError(f"source '{name}': no file matches {path}; --data names the folder that holds them")
    if not found:
        raise InputError(f"source '{name}': {path} does not exist; --data names the folder that holds it")
    if not shown and any(file.size for file, _ in found):
        raise InputError(
            f"source '{name}': {path} has no data file, only names that Spark passes over because they begin with "
            f"'.' or '_', such as {found[0][0].path}; rename them"
        )
    if not sum(file.size for file in shown):
        raise InputError(f"source '{name}': {path} is empty")
    return shown


def _matching(data: str, path: str, session: Callable[[], SparkSession]) -> list[_Found]:
    """Files that a path or pattern below ``data`` finds, and those of the folders that it finds."""
    if not _MARK.search(path):
        return _below(data, path.replace("\\", ""), session)
    parts = posixpath.normpath(path).split("/")
    plain = next(number for number, part in enumerate(parts) if _MARK.search(part))
    folder = "/".join([data, *(part.replace("\\", "") for part in parts[:plain])])
    wanted = re.compile(f"({pattern_of('/'.join(parts[plain:]))})(?:/.*)?", re.DOTALL)
    found = []
    for file, size, modified in _listed(folder, session):
        below = file.removeprefix(folder).lstrip("/")
        if match := wanted.fullmatch(below):
            base = f"{folder}/{match[1]}"
            base = base.rpartition("/")[0] if base == file else base
            found.append((SourceFile(file, size, modified, base), below.split("/")))
    return found


def _below(data: str, path: str, session: Callable[[], SparkSession]) -> list[_Found]:
    """The file ``path``, or all files of the folder ``path``, with the names below it."""
    where = f"{data}/{posixpath.normpath(path)}" if path not in ("", ".") else data
    return [
        (SourceFile(file, size, modified, where), [name for name in file.removeprefix(where).split("/") if name])
        if file != where
        else (SourceFile(file, size, modified, where.rpartition("/")[0]), [where.rpartition("/")[2]])
        for file, size, modified in _listed(where, session)
    ]


def _listed(path: str, session: Callable[[], SparkSession]) -> Iterator[_Listed]:
    """The file, or all files below the folder, named as ``path`` is; an empty folder as itself."""
    if not urlparse(path).scheme:
        return _known_to_arrow(LocalFileSystem(), path, path)
    try:
        filesystem, inner = FileSystem.from_uri(path)
    except pa.ArrowInvalid:
        return _known_to_spark(session(), path)
    return _known_to_arrow(filesystem, inner, path)


def _known_to_arrow(filesystem: FileSystem, inner: str, path: str) -> Iterator[_Listed]:
    info = filesystem.get_file_info(inner)
    if info.type == FileType.NotFound:
        return
    if info.is_file:
        yield path, info.size, info.mtime_ns
        return
    found = [info for info in filesystem.get_file_info(FileSelector(inner, recursive=True)) if info.is_file]
    for file in found:
        yield path + file.path.removeprefix(inner), file.size, file.mtime_ns
    if not found:
        yield path, 0, 0


def _known_to_spark(session: SparkSession, path: str) -> Iterator[_Listed]:
    """Files of a file system that only Spark has a client for."""
    from py4j.protocol import Py4JJavaError

    assert session._jvm is not None
    where = session._jvm.org.apache.hadoop.fs.Path(path)
    try:
        filesystem = where.getFileSystem(session._jsc.hadoopConfiguration())
        if not filesystem.exists(where):
            return
        root, files = filesystem.getFileStatus(where).getPath().toString(), filesystem.listFiles(where, True)
        while files.hasNext():
            file = files.next()
            yield path + file.getPath().toString().removeprefix(root), file.getLen(), file.getModificationTime()
    except Py4JJavaError as error:
        raise OSError(str(error.java_exception)) from error


def _refuse_other_tables(name: str, path: str, found: list[_Found]) -> None:
    """A table format keeps files of old versions beside those that count: read as plain files, deleted rows return."""
    markers = {"_delta_log": "Delta", ".hoodie": "Hudi"}
    for file, below in found:
        kind = next((markers[part] for part in below if part in markers), None)
        if kind is None and len(below) > 1 and below[-2] == "metadata" and below[-1].endswith(".metadata.json"):
            kind = "Iceberg"
        if kind is not None:
            remedy = 'set format = "delta"' if kind == "Delta" else "read it with the connector of that format"
            raise InputError(
                f"source '{name}': {path} is a {kind} table ({file.path}); its files hold rows of old versions too. "
                f"In the dataset file, {remedy}"
            )


def _committed(found: list[_Found], session: Callable[[], SparkSession]) -> list[_Found]:
    """Without the files that a streaming query has written but not committed, where its log lies beside them."""
    logs: dict[str, dict[str, SourceFile]] = {}
    for file, below in found:
        if len(below) > 1 and below[-2] == _STREAM_LOG and below[-1].removesuffix(".compact").isdigit():
            logs.setdefault(file.path.rpartition(f"/{_STREAM_LOG}/")[0], {})[below[-1]] = file
    if not logs:
        return found
    named = {path for batches in logs.values() for path in _named_by(batches, session)}
    return [
        (file, below)
        for file, below in found
        if not any(file.path.startswith(f"{folder}/") for folder in logs) or _plain(file.path) in named
    ]


def _named_by(batches: dict[str, SourceFile], session: Callable[[], SparkSession]) -> set[str]:
    """The files that a log of batches names: its newest compact entry holds all that came before it."""
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
