"""Which files a source is made of now: what ``nothing new`` is decided by."""

import re
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import urlparse

import pyarrow as pa
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from recsys_spark.dataset import Dataset
from recsys_spark.errors import InputError, RetryError
from recsys_spark.failures import in_a_line, passing

_MARKS = "*?[{"
_Found = tuple[str, int, int]
"""Path, bytes, time of modification."""


def snapshot_of(dataset: Dataset, data: str, session: Callable[[], SparkSession]) -> dict[str, list[str]]:
    """Path, size and modification time of every input file by source, those that a pattern finds among them.

    ``session`` is asked where only Spark knows the file system.

    Raises:
        InputError: a source does not exist or holds no bytes.
    """
    return {name: _files(name, f"{data}/{source.path}", session) for name, source in dataset.sources.items()}


def data_files(entries: Iterable[str], path: str) -> dict[str, str]:
    """Of a snapshot's entries for the source at ``path``: to each file that Spark takes for data its entry. Names that
    begin with a dot or an underscore are those of markers and of what is being written."""
    stem = path[: min((path.find(mark) for mark in _MARKS if mark in path), default=len(path))]
    named = {entry.rsplit(" ", 2)[0]: entry for entry in entries}
    return {file: entry for file, entry in named.items() if not _is_hidden(file.removeprefix(stem))}


def _is_hidden(below: str) -> bool:
    return any(part.startswith(".") or (part.startswith("_") and "=" not in part) for part in below.split("/"))


def _files(name: str, path: str, session: Callable[[], SparkSession]) -> list[str]:
    local, pattern = urlparse(path).scheme in ("", "file"), any(mark in path for mark in _MARKS)
    try:
        if pattern:
            found = sorted(_matching(path) if local else _known_to_spark(session(), path))
        else:
            found = _below(path) if local or _known_to_arrow(path) else sorted(_known_to_spark(session(), path))
    except (OSError, pa.ArrowException, PySparkException) as error:
        kind = RetryError if passing(error) else InputError
        raise kind(f"source '{name}': {path} cannot be read: {in_a_line(error)}") from error
    if not found and pattern:
        raise InputError(f"source '{name}': no file matches {path}; --data names the folder that holds them")
    if not found:
        raise InputError(f"source '{name}': {path} does not exist; --data names the folder that holds it")
    if not sum(size for _, size, _ in found):
        raise InputError(f"source '{name}': {path} is empty")
    return [f"{path} {size} {time}" for path, size, time in found]


def _known_to_arrow(path: str) -> bool:
    try:
        FileSystem.from_uri(path)
    except pa.ArrowInvalid:
        return False
    return True


def _below(path: str) -> list[_Found]:
    """The file, or all files of the folder, named as ``path`` is."""
    filesystem, inner = FileSystem.from_uri(path)
    info = filesystem.get_file_info(inner)
    if info.type == FileType.NotFound:
        return []
    scheme = path.removesuffix(inner) if path.endswith(inner) else ""
    files = [info] if info.is_file else _listed(filesystem, inner)
    return [(scheme + f.path, f.size, f.mtime_ns) for f in files] or [(path, 0, 0)]


def _matching(path: str) -> Iterator[_Found]:
    """Local files that a pattern finds, and those of the folders that it finds."""
    filesystem, inner = FileSystem.from_uri(path)
    parts = inner.split("/")
    plain = next(place for place, part in enumerate(parts) if any(mark in part for mark in _MARKS))
    wanted = re.compile(pattern_of(inner))
    for file in _listed(filesystem, "/".join(parts[:plain]) or "/"):
        if wanted.fullmatch(file.path):
            yield file.path, file.size, file.mtime_ns


def _listed(filesystem: FileSystem, folder: str) -> list[FileInfo]:
    found = filesystem.get_file_info(FileSelector(folder, recursive=True, allow_not_found=True))
    return [info for info in found if info.is_file]


def pattern_of(glob: str) -> str:
    """A pattern of Hadoop's, as Spark reads them, as a regular expression: ``*`` and ``?`` stay within a name,
    ``[a-c]``, ``[^a]``, ``{a,b}``; what is below a folder that matches belongs to it."""
    told, groups, place = "", 0, 0
    while place < len(glob):
        mark, place = glob[place], place + 1
        if mark == "\\" and place < len(glob):
            told, place = told + re.escape(glob[place]), place + 1
        elif mark == "[" and (end := glob.find("]", place + 1)) > 0:
            within = glob[place:end].replace("\\", "\\\\")
            told, place = f"{told}[{'^' + within[1:] if within[0] in '!^' else within}]", end + 1
        elif mark == "{":
            told, groups = told + "(?:", groups + 1
        elif mark == "}" and groups:
            told, groups = told + ")", groups - 1
        else:
            told += {"*": "[^/]*", "?": "[^/]"}.get(mark, "|" if mark == "," and groups else re.escape(mark))
    return f"{told}{')' * groups}(?:/.*)?"


def _known_to_spark(session: SparkSession, path: str) -> Iterator[_Found]:
    """What Spark itself would read, on any file system that it has."""
    from py4j.protocol import Py4JJavaError

    assert session._jvm is not None
    where = session._jvm.org.apache.hadoop.fs.Path(path)
    try:
        filesystem = where.getFileSystem(session._jsc.hadoopConfiguration())
        for status in filesystem.globStatus(where) or []:
            files = filesystem.listFiles(status.getPath(), True)
            while files.hasNext():
                file = files.next()
                yield file.getPath().toString(), file.getLen(), file.getModificationTime()
    except Py4JJavaError as error:
        raise OSError(str(error.java_exception)) from error
