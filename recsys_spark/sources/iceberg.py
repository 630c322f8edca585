"""Iceberg tables as sources: pyiceberg plans the data files and their deletes, tasks read them as Arrow."""

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from recsys_spark.errors import InputError, RecsysError, RetryError, UsageError
from recsys_spark.errors.messages import is_transient, one_line
from recsys_spark.errors.redaction import redacted
from recsys_spark.runtime.servers import check_installed
from recsys_spark.sources.dataset_file import Source
from recsys_spark.sources.listing import Part, Wanted, selected
from recsys_spark.sources.partitions import Condition, conditions
from recsys_spark.sources.task_rows import packed, rows_of_tasks

if TYPE_CHECKING:
    from pyiceberg.table import FileScanTask, Table
    from pyiceberg.table.snapshots import Snapshot

REQUIREMENT = "pyiceberg>=0.12,<0.13"

_ENTRY = re.compile(r"iceberg (\S+) snapshot (\d+) schema (\d+)")

_REMEDY = (
    "Let its owner rewrite the data files (rewrite_data_files), or read it with Iceberg's connector: "
    'table = "CATALOG.SCHEMA.NAME"'
)

_DOWN = {"ServerError", "ServiceUnavailableError", "TooManyRequestsError", "OperationalError"}
"""Names of errors of REST catalogues, and of SQLAlchemy, that may pass."""

_ABSENT = {"NoSuchTableError", "NoSuchIcebergTableError", "NoSuchNamespaceError", "NoSuchIdentifierError"}

_REFUSED = {"UnauthorizedError", "ForbiddenError", "AuthorizationExpiredError", "OAuthError", "BadRequestError"}


def iceberg_listing(name: str, source: Source, data: str) -> "IcebergListing":
    """The current snapshot of a table, or the one that the dataset file names.

    Raises:
        UsageError: pyiceberg is missing, knows no such catalogue, or a condition is wrong.
        InputError: there is no such table or snapshot, it is empty, or a catalogue or store refuses access.
        RetryError: the catalogue does not answer.
    """
    place = source.place(data)
    check_installed("pyiceberg", REQUIREMENT, name=f"source '{name}' (format = \"iceberg\")")
    with _plain_words(name, place):
        table = _open_table(source, place)
        snapshot = table.current_snapshot() if source.version is None else table.snapshot_by_id(source.version)
        if snapshot is None:
            lack = "is empty" if source.version is None else f"has no snapshot {source.version}"
            raise InputError(f"source '{name}': the Iceberg table {place} {lack}")
        wanted = conditions(name, source.partitions, table.schema().column_names)
        return IcebergListing(name, place, table, snapshot, wanted, source.version)


@dataclass(frozen=True)
class IcebergListing:
    """A snapshot of a table, and its rows for which the conditions hold."""

    name: str
    place: str
    table: "Table"
    snapshot: "Snapshot"
    wanted: Sequence[Condition] = ()
    version: int | None = None
    """The snapshot that the dataset file names: it is read with the columns that it had."""

    @cached_property
    def entries(self) -> list[str]:
        """The table, its last snapshot that changed rows, and its columns: a compaction (replace) changes none."""
        from pyiceberg.table.snapshots import Operation

        snapshot: Any = self.snapshot
        while snapshot.summary is not None and snapshot.summary.operation == Operation.REPLACE:
            parent = snapshot.parent_snapshot_id
            if parent is None or (earlier := self.table.snapshot_by_id(parent)) is None:
                break
            snapshot = earlier
        return [f"iceberg {self.table.metadata.table_uuid} snapshot {snapshot.snapshot_id} schema {self._schema_id}"]

    @property
    def bytes(self) -> int:
        """Size of the data files."""
        return _bytes(self.tasks)

    @cached_property
    def tasks(self) -> "list[FileScanTask]":
        """The data files with their deletes, sorted by path.

        Raises:
            InputError: a file or a delete cannot be read rightly.
        """
        with _plain_words(self.name, self.place):
            return self._checked(self._scan.plan_files())

    def added(self, before: Sequence[str]) -> Part | str:
        """The files that append snapshots since then added."""
        from pyiceberg.table.snapshots import Operation

        match = _ENTRY.fullmatch(before[0]) if len(before) == 1 else None
        if match is None or match[1] != str(self.table.metadata.table_uuid):
            return "the table was created again, or the last run read other files"
        if int(match[3]) != self._schema_id:
            return "the columns of the table changed"
        since, snapshot = int(match[2]), self.snapshot
        while snapshot.snapshot_id != since:
            operation = None if snapshot.summary is None else snapshot.summary.operation
            if operation not in (Operation.APPEND, Operation.REPLACE):
                kind = "unknown" if operation is None else operation.value
                return f"snapshot {snapshot.snapshot_id} of the table ({kind}) removes or replaces rows"
            parent = snapshot.parent_snapshot_id
            earlier = None if parent is None else self.table.snapshot_by_id(parent)
            if earlier is None:
                return f"the history of the table no longer has snapshot {since}"
            snapshot = earlier
        with _plain_words(self.name, self.place):
            scan = self.table.incremental_append_scan(
                from_snapshot_id_exclusive=since,
                to_snapshot_id_inclusive=self.snapshot.snapshot_id,
                row_filter=self._filter,
            )
            tasks = self._checked(scan.plan_files())
        return Part(f"{len(tasks)} new files", _bytes(tasks), tasks)

    @cached_property
    def schema(self) -> StructType:
        """All columns."""
        return self._spark_schema(self._scan.projection())

    def frame(self, spark: SparkSession, part: Part | None = None, wanted: Wanted = list) -> DataFrame:
        """All rows, or those of appended files."""
        tasks, schema = self.tasks if part is None else part.content, selected(self.schema, wanted)
        columns = self._scan.projection().select(*schema.names)
        history: dict[str, Any] = {"snapshots": [], "snapshot_log": [], "metadata_log": [], "refs": {}}
        metadata = self.table.metadata.model_copy(update=history | {"current_snapshot_id": None})
        what = f"source '{self.name}': the Iceberg table {self.place}"
        read = partial(_rows, metadata=metadata, io=self.table.io, columns=columns, row_filter=self._filter)
        groups = [tasks[run] for run in packed([task.file.file_size_in_bytes for task in tasks])] if tasks else []
        return rows_of_tasks(spark, groups, read, schema, what)

    @property
    def _schema_id(self) -> int:
        return int(self._scan.projection().schema_id)

    @cached_property
    def _scan(self) -> Any:
        return self.table.scan(row_filter=self._filter, snapshot_id=self.version)

    @cached_property
    def _filter(self) -> Any:
        from pyiceberg import expressions as E  # noqa: N812

        kinds: dict[str, Any] = {"=": E.EqualTo, "!=": E.NotEqualTo, "<": E.LessThan, "<=": E.LessThanOrEqual,
                                 ">": E.GreaterThan, ">=": E.GreaterThanOrEqual}  # fmt: skip
        wanted: Any = E.AlwaysTrue()
        for one in self.wanted:
            is_given = E.NotNull(term=E.Reference(one.column))
            wanted = E.And(wanted, E.And(is_given, kinds[one.sign](one.column, one.value)))
        return wanted

    def _checked(self, tasks: "Iterable[FileScanTask]") -> "list[FileScanTask]":
        files = sorted(tasks, key=lambda task: task.file.file_path)
        kinds = {task.file.file_format.value for task in files} - {"PARQUET", "ORC"}
        deletes = {delete.file_format.value for task in files for delete in task.delete_files} - {"PARQUET"}
        if kinds or deletes:
            what = f"data files in {min(kinds)}" if kinds else f"deletion vectors ({min(deletes)}, of Iceberg 3)"
            raise InputError(f"source '{self.name}': the Iceberg table {self.place} has {what}, which are not "
                             f"supported. {_REMEDY}")  # fmt: skip
        return files

    def _spark_schema(self, columns: Any) -> StructType:
        from pyiceberg.io.pyarrow import schema_to_pyarrow
        from pyspark.errors import PySparkTypeError
        from pyspark.sql.pandas.types import from_arrow_schema

        schema = StructType()
        for column in schema_to_pyarrow(columns, include_field_ids=False):
            try:
                schema.add(from_arrow_schema(pa.schema([column]), prefer_timestamp_ntz=True).fields[0])
            except PySparkTypeError as error:
                raise InputError(f"source '{self.name}': column {column.name} of {self.place} is {column.type}, which "
                                 f"Spark has no type for. {_REMEDY}") from error  # fmt: skip
        return schema


def _rows(
    tasks: "Sequence[FileScanTask]", schema: pa.Schema, metadata: Any, io: Any, columns: Any, row_filter: Any
) -> Iterator[pa.RecordBatch]:
    """In a task: the rows of its files, one file in memory at a time."""
    from pyiceberg.io.pyarrow import ArrowScan

    scan = ArrowScan(metadata, io, columns, row_filter)
    for task in tasks:
        for batch in scan.to_record_batches([task]):
            arrays = [batch[field.name].cast(field.type) for field in schema]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _bytes(tasks: "Sequence[FileScanTask]") -> int:
    return sum(task.file.file_size_in_bytes for task in tasks)


def _open_table(source: Source, place: str) -> "Table":
    from pyiceberg.catalog import load_catalog
    from pyiceberg.table import StaticTable

    if source.table is None:
        return StaticTable.from_metadata(place)
    return load_catalog(source.catalog).load_table(source.table)


@contextmanager
def _plain_words(name: str, place: str) -> Iterator[None]:
    """Errors of pyiceberg, its catalogues and stores as errors for users, without secrets."""
    where = f"source '{name}': the Iceberg table {place}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one of them shows the address of a catalogue
            yield
    except RecsysError:
        raise
    except Exception as error:
        kind, words = type(error).__name__, redacted(one_line(error))[:400]
        if "equality deletes" in words:
            raise InputError(f"{where} has equality deletes, which are not supported. {_REMEDY}") from None
        if kind in _DOWN or is_transient(error):
            raise RetryError(f"{where} cannot be reached: {words}") from None
        if kind in _ABSENT or isinstance(error, FileNotFoundError):
            raise InputError(f"{where} does not exist: {words}") from None
        if kind in _REFUSED or isinstance(error, OSError):
            raise InputError(f"{where} cannot be read: {words}") from None
        if isinstance(error, ValueError) or kind in ("NotInstalledError", "ValidationError"):
            raise UsageError(f"{where} cannot be opened: {words}") from None
        raise
