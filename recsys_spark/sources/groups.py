"""Group the files of a source by layout: the files of a group are read with the same options and have the same
columns."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem, LocalFileSystem
from pyspark.sql import SparkSession

from recsys_spark.errors import InputError
from recsys_spark.sources.dataset_file import Source
from recsys_spark.sources.files import SourceFile
from recsys_spark.sources.first_bytes import first_text, is_whole
from recsys_spark.sources.text_shape import Shape, csv_shape, json_shape, not_text

_READERS = 16
"""Files to inspect at once: on a store the time is spent waiting."""

_MOST_GROUPS = 50

Columns = tuple[tuple[str, str], ...]
"""Name and type of each column of a Parquet file."""


@dataclass(frozen=True)
class FileGroup:
    """Files with the same columns. ``root``: the folder whose subfolders ``name=value`` are the columns
    ``partitions``."""

    files: tuple[str, ...]
    root: str | None
    partitions: tuple[str, ...]
    shape: Shape
    columns: Columns = ()


class FileInspector:
    """Inspects the files of sources, each file once per run: ingest groups a whole log first, then its new files."""

    def __init__(self, session: Callable[[], SparkSession]) -> None:
        """``session`` is called only for file systems that Arrow does not know."""
        self._session = session
        self._layouts: dict[tuple[str, ...], tuple[Shape, Columns]] = {}

    def groups(self, name: str, source: Source, files: Sequence[SourceFile]) -> list[FileGroup]:
        """The files of the source ``name`` by shape and columns. The group of a file depends on that file only.

        Raises:
            InputError: a file is not text although its format says so, or the files have too many different layouts.
        """
        full = [file for file in files if file.size or source.format not in ("csv", "json", "text")]
        with ThreadPoolExecutor(_READERS) as pool:
            layouts = list(pool.map(lambda file: self._layout(name, source, file), full))
        groups: dict[tuple[object, ...], list[str]] = {}
        for file, (shape, columns) in zip(full, layouts, strict=True):
            groups.setdefault((*_partitions(file, source), shape, columns), []).append(file.path)
        if len(groups) > _MOST_GROUPS:
            headers = list(dict.fromkeys(shape.header for shape, _ in layouts if shape.header is not None))[:3]
            question = f" Header rows such as {headers}: does every file have one?" if headers else ""
            raise InputError(
                f"source '{name}': its {len(full)} files have {len(groups)} different layouts, more than "
                f"{_MOST_GROUPS}: they seem not to belong together.{question}"
            )
        return [FileGroup(tuple(paths), *key) for key, paths in groups.items()]  # type: ignore[arg-type]

    def _layout(self, name: str, source: Source, file: SourceFile) -> tuple[Shape, Columns]:
        options = lower_keys(source)
        key = (file.entry, source.format, *(f"{option}={value}" for option, value in sorted(options.items())))
        if key not in self._layouts:
            if source.format == "parquet":
                self._layouts[key] = Shape(), _parquet_columns(name, file)
            elif source.format in ("csv", "json", "text"):
                self._layouts[key] = _text_shape(name, source.format, options, file, self._session), ()
            else:
                self._layouts[key] = Shape(), ()
        return self._layouts[key]


def lower_keys(source: Source) -> dict[str, str]:
    """The options of a source as Spark understands them: names in lower case, values as text."""
    return {key.lower(): str(value).lower() if value in (True, False) else str(value)
            for key, value in source.options.items()}  # fmt: skip


def partition_names(folders: Iterable[str]) -> tuple[int, tuple[str, ...]]:
    """The partition columns among the ``folders`` between a base and a file, as Spark discovers them.

    Returns:
        The number of folders before the last run of ``name=value``, and the names in that run.
    """
    parts = list(folders)
    while parts and not _is_partition(parts[-1]):
        parts.pop()
    start = len(parts)
    while start and _is_partition(parts[start - 1]):
        start -= 1
    return start, tuple(part.partition("=")[0] for part in parts[start:])


def _is_partition(name: str) -> bool:
    column, mark, value = name.partition("=")
    return bool(column and mark and value)


def _partitions(file: SourceFile, source: Source) -> tuple[str | None, tuple[str, ...]]:
    if str(source.options.get("recursiveFileLookup", "")).lower() == "true":
        return None, ()
    folders = [part for part in file.path.removeprefix(file.base).split("/")[:-1] if part]
    start, names = partition_names(folders)
    return ("/".join([file.base, *folders[:start]]), names) if names else (None, ())


def _text_shape(
    name: str, kind: str, given: Mapping[str, str], file: SourceFile, session: Callable[[], SparkSession]
) -> Shape:
    encoding = given.get("encoding", given.get("charset", "utf-8"))
    try:
        stored, head = first_text(file.path, session)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"source '{name}': {file.path} cannot be read: {error}") from error
    if why := not_text(file.path, stored, encoding):
        raise InputError(f"source '{name}': {file.path} is {why}; format = \"{kind}\" needs plain text")
    if head is None:
        return Shape()
    whole = is_whole(file.path, file.size, head)
    if kind == "csv":
        return csv_shape(head, whole, given)
    return json_shape(head, whole, given) if kind == "json" else Shape()


def _parquet_columns(name: str, file: SourceFile) -> Columns:
    """The columns in the footer of a file; empty if only Spark can open the file."""
    try:
        local = "://" not in file.path
        filesystem, inner = (LocalFileSystem(), file.path) if local else FileSystem.from_uri(file.path)
    except pa.ArrowInvalid:
        return ()
    try:
        with filesystem.open_input_file(inner) as stream:
            return tuple((field.name, str(field.type)) for field in pq.read_schema(stream))
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"source '{name}': {file.path} is not a complete Parquet file: {str(error).splitlines()[0]}"
        ) from error
