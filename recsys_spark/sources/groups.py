"""Group the files of a source: those of a group are read by the same options and have the same columns."""

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
"""Files that are looked into at once: on a store the time goes into waiting."""

_MOST_GROUPS = 50

_seen: dict[tuple[str, ...], "tuple[Shape, tuple[tuple[str, str], ...]]"] = {}
"""What was seen in each file: a night asks for the whole log first, then for its new files."""


@dataclass(frozen=True)
class FileGroup:
    """Files with the same columns. ``root``: the folder whose subfolders ``name=value`` are columns ``partitions``;
    ``columns``: name and type of the columns in a Parquet file."""

    files: tuple[str, ...]
    root: str | None
    partitions: tuple[str, ...]
    shape: Shape
    columns: tuple[tuple[str, str], ...] = ()


def grouped(
    name: str, source: Source, files: Sequence[SourceFile], session: Callable[[], SparkSession]
) -> list[FileGroup]:
    """The files of a source by shape and columns. What a file belongs to depends on that file alone.

    Raises:
        InputError: a file is no text although its format says so, or the files have too many different headers.
    """
    full = [file for file in files if file.size or source.format not in ("csv", "json", "text")]
    with ThreadPoolExecutor(_READERS) as pool:
        looks = list(pool.map(lambda file: _look(name, source, file, session), full))
    groups: dict[tuple[object, ...], list[str]] = {}
    for file, (shape, columns) in zip(full, looks, strict=True):
        groups.setdefault((*_partitions(file, source), shape, columns), []).append(file.path)
    if len(groups) > _MOST_GROUPS:
        headers = list(dict.fromkeys(shape.header for shape, _ in looks if shape.header is not None))[:3]
        shown = f" Header rows such as {headers}: has every file one?" if headers else ""
        raise InputError(
            f"source '{name}': its {len(full)} files have {len(groups)} different layouts, more than {_MOST_GROUPS}, "
            f"so they hardly belong together.{shown}"
        )
    return [FileGroup(tuple(paths), *key) for key, paths in groups.items()]  # type: ignore[arg-type]


def lower_keys(source: Source) -> dict[str, str]:
    """The options of a source as Spark understands them: names in any case, values as text."""
    return {key.lower(): str(value).lower() if value in (True, False) else str(value)
            for key, value in source.options.items()}  # fmt: skip


def partition_names(folders: Iterable[str]) -> tuple[int, tuple[str, ...]]:
    """Of the folders between a base and a file: how many come before the run of ``name=value`` that ends nearest to
    the file, and the names in it. As Spark discovers partitions."""
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


def _look(
    name: str, source: Source, file: SourceFile, session: Callable[[], SparkSession]
) -> tuple[Shape, tuple[tuple[str, str], ...]]:
    key = (file.entry, source.format, *(f"{option}={value}" for option, value in sorted(lower_keys(source).items())))
    if key not in _seen:
        if source.format == "parquet":
            _seen[key] = Shape(), _parquet_columns(name, file)
        elif source.format in ("csv", "json", "text"):
            _seen[key] = _text_shape(name, source.format, lower_keys(source), file, session), ()
        else:
            _seen[key] = Shape(), ()
    return _seen[key]


def _text_shape(
    name: str, kind: str, given: Mapping[str, str], file: SourceFile, session: Callable[[], SparkSession]
) -> Shape:
    encoding = given.get("encoding", given.get("charset", "utf-8"))
    try:
        stored, head = first_text(file.path, session)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"source '{name}': {file.path} cannot be read: {error}") from error
    if why := not_text(file.path, stored, encoding):
        raise InputError(f"source '{name}': {file.path} is {why}; format = \"{kind}\" wants plain text")
    if head is None:
        return Shape()
    whole = is_whole(file.path, file.size, head)
    if kind == "csv":
        return csv_shape(head, whole, given)
    return json_shape(head, whole, given) if kind == "json" else Shape()


def _parquet_columns(name: str, file: SourceFile) -> tuple[tuple[str, str], ...]:
    """Name and type of each column, from the footer; nothing where only Spark can open the file."""
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
            f"source '{name}': {file.path} is no whole Parquet file: {str(error).splitlines()[0]}"
        ) from error
