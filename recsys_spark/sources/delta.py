"""Delta tables as sources, without a connector: the log of the table names the files of a version.

Spark reads the files where they are plain Parquet. Tasks of Python read them as Arrow where the table maps columns, has
deletion vectors, or is on a store that Spark has no connector for.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property, partial
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from pyarrow.fs import FileType
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from recsys_spark.errors import InputError, RetryError, UsageError
from recsys_spark.errors.messages import is_transient, one_line
from recsys_spark.lake.commits import data_files_of
from recsys_spark.lake.paths import delta_uri, spark_path
from recsys_spark.sources.arrow_types import arrow_schema, arrow_type
from recsys_spark.sources.dataset_file import Source
from recsys_spark.sources.delta_log import added_files, arrow_uri, delta_file, last_change, log_actions, removes_rows
from recsys_spark.sources.kernels.delta_file import StoredFile, file_system, stored_rows
from recsys_spark.sources.listing import Part, Wanted, selected
from recsys_spark.sources.partitions import Condition, conditions, hold, typed
from recsys_spark.sources.task_rows import packed, rows_of_tasks

_PLAIN = {"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"}
"""Reader features with which the files in the log hold exactly the rows of the table."""

_READ = {"columnMapping", "deletionVectors", "typeWidening", "typeWidening-preview"}
"""Reader features that need more than the files, and are read rightly by tasks of Python."""

_ENTRY = re.compile(r"delta (\S+) version (\d+)")

_STORES = ("s3", "gs", "gcs", "az", "abfs", "abfss")
"""Schemes of stores that Arrow reads. Spark reads the rest, s3a and hdfs among them."""

_EMPTY_FOLDER = "__HIVE_DEFAULT_PARTITION__"


def delta_listing(name: str, source: Source, data: str) -> "DeltaListing":
    """The newest version of a table, or the one that the dataset file names.

    Raises:
        InputError: there is no Delta table, it is empty, or it uses a feature that cannot be read rightly.
        UsageError: a condition is wrong.
    """
    path = f"{data}/{source.path}"
    table = readable_table(name, path, source.version)
    wanted = conditions(name, source.partitions, table.metadata().partition_columns)
    listing = DeltaListing(name, path, table, wanted)
    if not listing.files:
        where = f" where {' and '.join(source.partitions)}" if wanted else ""
        raise InputError(f"source '{name}': the Delta table {path} is empty{where}")
    return listing


@dataclass(frozen=True)
class DeltaListing:
    """A version of a table, and its files in the partitions that are wanted."""

    name: str
    path: str
    table: DeltaTable
    wanted: Sequence[Condition] = ()

    @cached_property
    def entries(self) -> list[str]:
        """The table, and its last version that changed rows: a version that compacts files changes none."""
        return [f"delta {self.table.metadata().id} version {last_change(self.path, self.table.version())}"]

    @property
    def bytes(self) -> int:
        """Size of the files."""
        return sum(file.size for file in self.files)

    @cached_property
    def schema(self) -> StructType:
        """The columns, partition columns included."""
        return StructType.fromJson(json.loads(self.table.schema().to_json()))

    @cached_property
    def files(self) -> list[StoredFile]:
        """The files of the version, sorted by path."""
        columns = self.table.metadata().partition_columns
        deleted = self._deleted()
        rows = data_files_of(self.table, flatten=False).select(
            ["path", "size_bytes", *(["partition"] if columns else [])]
        )
        files = [self._file(row["path"], row["size_bytes"], row.get("partition") or {}, deleted)
                 for row in rows.to_pylist()]  # fmt: skip
        if lost := deleted.keys() - {file.uri for file in files}:
            raise InputError(f"source '{self.name}': {self.path} has deletion vectors of files that it does not name: "
                             f"{', '.join(sorted(lost)[:3])}")  # fmt: skip
        return sorted((file for file in files if self._is_wanted(file)), key=lambda file: file.uri)

    def added(self, before: Sequence[str]) -> Part | str:
        """The files that versions since then added to the table. Their rows are read from the files that were added,
        even where a later version compacted these."""
        match = _ENTRY.fullmatch(before[0]) if len(before) == 1 else None
        if match is None or match[1] != self.table.metadata().id:
            return "the table was created again, or the last run read other files"
        if int(match[2]) > self.table.version():
            return "the version that is read is earlier than that of the last run"
        files = []
        for version in range(int(match[2]) + 1, self.table.version() + 1):
            actions = log_actions(self.path, version)
            if actions is None:
                return f"the log of the table no longer has version {version}"
            if removes_rows(actions):
                return f"version {version} of the table removes or replaces rows"
            adds = added_files(actions)
            if any("metaData" in action for action in actions) or any(add.get("deletionVector") for add in adds):
                return f"version {version} of the table changes its columns or settings"
            files += [self._file(add["path"], add["size"], self._typed(add), {}) for add in adds]
        wanted = [file for file in files if self._is_wanted(file)]
        if any(map(_is_missing, {file.uri for file in wanted} - {file.uri for file in self.files})):
            return "files that were added since the last run were compacted and vacuumed"
        return Part(f"{len(wanted)} new files", sum(file.size for file in wanted), wanted)

    def frame(self, spark: SparkSession, part: Part | None = None, wanted: Wanted = list) -> DataFrame:
        """All rows, or those of added files."""
        files = self.files if part is None else part.content
        if self._is_plain(files):
            paths = [spark_path(file.uri) for file in files or self.files[:1]]
            frame = spark.read.format("parquet").options(basePath=self.path).schema(self.schema).load(paths)
            return frame if files else frame.where(F.lit(False))
        groups = [[_for_arrow(file) for file in files[run]] for run in packed([file.size for file in files])]
        schema = selected(self.schema, wanted)
        read = partial(stored_rows, fields=arrow_schema(schema, self._mapping))
        what = f"source '{self.name}': {self.path}"
        return rows_of_tasks(spark, groups, partial(_rows, read=read), schema, what)

    @property
    def _mapping(self) -> str:
        return str(self.table.metadata().configuration.get("delta.columnMapping.mode", "none"))

    def _is_plain(self, files: Sequence[StoredFile]) -> bool:
        """Whether Spark's reader of Parquet gives the rows of ``files``."""
        if urlparse(self.path).scheme in _STORES or _features(self.table) - _PLAIN:
            return False
        return all(file.deleted is None and _is_in_folders(self.path, file) for file in files)

    def _file(self, uri: str, size: int, values: Mapping[str, Any], deleted: Mapping[str, np.ndarray]) -> StoredFile:
        path = delta_file(self.path, uri)
        return StoredFile(path, size, values, deleted.get(path))

    def _is_wanted(self, file: StoredFile) -> bool:
        return hold(self.name, self.wanted, file.constants, self._partition_types)

    @cached_property
    def _partition_types(self) -> dict[str, pa.DataType]:
        return {name: arrow_type(self.schema[name].dataType) for name in self.table.metadata().partition_columns}

    def _typed(self, add: Mapping[str, Any]) -> dict[str, Any]:
        """The values of the partition columns in an action of the log, which has their stored names."""
        values = add.get("partitionValues") or {}
        stored = {field.name: field.metadata.get("delta.columnMapping.physicalName", field.name)
                  for field in self.schema}  # fmt: skip
        return {name: typed(values.get(stored[name]), kind) for name, kind in self._partition_types.items()}

    def _deleted(self) -> dict[str, np.ndarray]:
        """The positions of deleted rows by file: a bit for each row of a file with deletions is held here."""
        if "deletionVectors" not in _features(self.table):
            return {}
        vectors = pa.RecordBatchReader.from_stream(self.table.deletion_vectors()).read_all()
        return {
            self._in_log(uri.as_py()): np.flatnonzero(~kept.values.to_numpy(zero_copy_only=False))
            for uri, kept in zip(vectors["filepath"], vectors["selection_vector"], strict=True)
        }

    def _in_log(self, uri: str) -> str:
        """A URI of deltalake as the path of a file in the log."""
        root = self.table.table_uri.rstrip("/")
        return f"{self.path}/{unquote(uri.removeprefix(root).lstrip('/'))}" if uri.startswith(root) else unquote(uri)


def readable_table(name: str, path: str, version: int | None = None) -> DeltaTable:
    """A version of a table, by default the newest.

    Raises:
        InputError: there is no Delta table, or it uses a feature that cannot be read rightly.
    """
    table = _open_table(name, path, version)
    features = _features(table) - _PLAIN - _READ
    if "deletionVectors" in _features(table) and not hasattr(table, "deletion_vectors"):
        features.add("deletionVectors (which a newer deltalake reads)")
    return _without(features, name, path, table)


def plain_table(name: str, path: str, version: int | None = None) -> DeltaTable:
    """A version of a table whose files hold exactly its rows, by default the newest.

    Raises:
        InputError: there is no Delta table, or it uses a feature that only a Delta reader supports.
    """
    table = _open_table(name, path, version)
    return _without(_features(table) - _PLAIN, name, path, table)


def _without(features: set[str], name: str, path: str, table: DeltaTable) -> DeltaTable:
    if features:
        raise InputError(
            f"source '{name}': the Delta table {path} uses {', '.join(sorted(features))}, which is not supported. "
            "Rewrite the table without it (deletion vectors: REORG TABLE … APPLY (PURGE)), export it as Parquet, or "
            'read it with Delta\'s connector: table = "delta.`PATH`"'
        )
    return table


def _features(table: DeltaTable) -> set[str]:
    features = set(table.protocol().reader_features or [])
    return features | {"columnMapping"} if table.protocol().min_reader_version == 2 else features


def _open_table(name: str, path: str, version: int | None = None) -> DeltaTable:
    try:
        return DeltaTable(delta_uri(arrow_uri(path)), version=version)
    except TableNotFoundError as error:
        raise InputError(f"source '{name}': {path} is no Delta table: it has no _delta_log") from error
    except (DeltaError, OSError) as error:
        kind = RetryError if is_transient(error) else InputError
        raise kind(f"source '{name}': {path} cannot be read as a Delta table: {one_line(error)}") from error
    except ValueError as error:
        raise UsageError(f"source '{name}': {path}: {error}") from error


def _rows(files: Sequence[StoredFile], schema: pa.Schema, read: Any) -> Iterator[pa.RecordBatch]:
    return read(files, schema=schema)


def _for_arrow(file: StoredFile) -> StoredFile:
    return StoredFile(arrow_uri(file.uri), file.size, file.constants, file.deleted)


def _is_in_folders(path: str, file: StoredFile) -> bool:
    """Whether Spark would find the values of the partition columns in the names of the folders."""
    values = {name: _EMPTY_FOLDER if value is None else str(value) for name, value in file.constants.items()}
    folders = file.uri.removeprefix(f"{path}/").split("/")[:-1]
    plain = all(type(value) in (int, str, date, type(None)) for value in file.constants.values())
    stored = [tuple(map(unquote, folder.split("=", 1))) for folder in folders]
    return plain and file.uri.startswith(f"{path}/") and stored == list(values.items())


def _is_missing(uri: str) -> bool:
    filesystem, path = file_system(arrow_uri(uri))
    return bool(filesystem.get_file_info(path).type != FileType.File)
