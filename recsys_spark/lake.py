"""The only storage code: Delta tables written by executors and committed by the driver.

Executors write Parquet files that nobody can see yet; the driver makes one atomic Delta commit that names them. A
killed job leaves at most files that no commit names. Readers always get one whole version.
"""

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, create_table_with_add_actions
from pyarrow.fs import FileSystem

from recsys_spark.errors import ConflictError, InputError
from recsys_spark.tables import Make, Notes, Table

if TYPE_CHECKING:
    from pyspark.resource import ResourceProfile
    from pyspark.sql import DataFrame, SparkSession

ROW_GROUP_ROWS = 16_384
_KEY = "recsys_run_key"
_FILE_DDL = "path string, bytes bigint, rows bigint, stats string, notes string"
_FILE_SCHEMA = pa.schema(
    {"path": pa.string(), "bytes": pa.int64(), "rows": pa.int64(), "stats": pa.string(), "notes": pa.string()}
)


@dataclass(frozen=True)
class Staged:
    """Files that executors wrote and no commit names yet."""

    table: Table
    actions: list[AddAction]
    rows: int
    notes: list[Notes]


class Lake:
    """A folder (local path, ``s3://`` or any URI that deltalake and pyarrow share) with one Delta table per name."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/") if urlparse(uri).scheme else str(Path(uri).expanduser().absolute())

    def table_uri(self, table: Table) -> str:
        """Where the table lies."""
        return f"{self.uri}/{table.name}"

    def version(self, table: Table) -> int | None:
        """The newest version, or None where the table was never published."""
        delta = self._open(table)
        return None if delta is None else delta.version()

    def identity(self, table: Table) -> str | None:
        """A name that a table keeps until it is dropped; None where it was never published."""
        delta = self._open(table)
        return None if delta is None else str(delta.metadata().id)

    def published_by(self, table: Table, key: str) -> int | None:
        """The version that the run ``key`` published, if it is still what the table shows."""
        delta = self._open(table)
        if delta is None:
            return None
        ours = next((entry for entry in delta.history() if _KEY in entry), None)
        return ours["version"] if ours and ours[_KEY] == key else None

    def has_commit(self, table: Table, key: str) -> bool:
        """Whether the run ``key`` ever committed to the table: for tables that only grow."""
        delta = self._open(table)
        return delta is not None and delta.transaction_version(key) is not None

    def rows(self, table: Table) -> int:
        """Rows of the newest version, from the commit log alone."""
        delta = self._open(table)
        return 0 if delta is None else sum(pa.table(delta.get_add_actions(flatten=True))["num_records"].to_pylist())

    def read(self, spark: "SparkSession", table: Table, version: int | None = None) -> "DataFrame":
        """One whole version as a DataFrame.

        Raises:
            InputError: the table or the version does not exist, or the log names a file that is gone.
        """
        delta = self._open(table, version)
        if delta is None:
            raise InputError(
                f"table '{table.name}' is missing in lake {self.uri}: run the job that makes it first (README, Jobs)"
            )
        return _parquet(spark, table, delta.file_uris())

    def read_or_empty(self, spark: "SparkSession", table: Table) -> "DataFrame":
        """The newest version, or no rows where the table was never published."""
        return _parquet(spark, table, []) if self.version(table) is None else self.read(spark, table)

    def read_staged(self, spark: "SparkSession", staged: Staged) -> "DataFrame":
        """What a commit of these files would add: for audits before publishing."""
        folder = self.table_uri(staged.table)
        return _parquet(spark, staged.table, [f"{folder}/{action.path}" for action in staged.actions])

    def stage(
        self, frame: "DataFrame", table: Table, make: Make | None = None, profile: "ResourceProfile | None" = None
    ) -> Staged:
        """Run the plan: every task writes its rows to files of its own and returns only their metadata.

        The rows returned grow with tasks, never with users or events. ``make`` is the last transformation, in the
        Python process that also writes: as a stage of its own it would have a second process, and what is loaded
        there (a model) would soon be loaded in both.
        """
        found = dict(frame.dtypes)
        if make is None and found != table.columns:
            raise TypeError(f"table '{table.name}' wants {table.columns}, the transformation made {found}")
        uri, schema = self.table_uri(table), table.arrow_schema
        keys = [c for c in table.key if table.columns[c] in ("string", "int", "bigint")]
        filesystem, path = FileSystem.from_uri(uri)
        filesystem.create_dir(path, recursive=True)
        columns = frame.columns if make else list(table.columns)
        files = frame.select(*columns).mapInArrow(
            lambda batches: _write(batches, make, uri, schema, keys), _FILE_DDL, profile=profile
        )
        now = int(time.time() * 1000)  # Delta's own bookkeeping of file ages, for vacuum; no result depends on it
        tasks = files.collect()
        written = sorted((row for row in tasks if row["path"]), key=lambda row: row["path"])
        actions = [AddAction(row["path"], row["bytes"], {}, now, True, row["stats"]) for row in written]
        return Staged(table, actions, sum(row["rows"] for row in written), [json.loads(row["notes"]) for row in tasks])

    def commit(self, staged: Staged, key: str, *, append: bool = False, metadata: dict[str, str] | None = None) -> int:
        """Publish staged files in one atomic commit, marked with the run's key. Returns the new version.

        Raises:
            ConflictError: another writer committed to the table at the same moment.
        """
        table, uri = staged.table, self.table_uri(staged.table)
        delta = self._open(table)
        attempts = 0 if delta is None else (delta.transaction_version(key) or 0)
        properties = CommitProperties(
            custom_metadata={_KEY: key, **(metadata or {})}, app_transactions=[Transaction(key, attempts + 1)]
        )
        schema = Schema.from_arrow(table.arrow_schema)
        try:
            if delta is None:
                create_table_with_add_actions(
                    uri, schema, staged.actions, name=table.name, commit_properties=properties
                )
            else:
                mode = "append" if append else "overwrite"
                delta.create_write_transaction(list(staged.actions), mode, schema, commit_properties=properties)
        except (CommitFailedError, DeltaError) as error:
            raise ConflictError(f"table '{table.name}': the commit was refused ({error}); run again") from error
        return DeltaTable(uri).version()

    def write_status(self, job: str, run_date: str, report: dict[str, Any]) -> None:
        """Keep a job's last JSON line beside the tables: cluster modes hide exit codes and output."""
        filesystem, path = FileSystem.from_uri(f"{self.uri}/_status/{job}")
        filesystem.create_dir(path, recursive=True)
        with filesystem.open_output_stream(f"{path}/{run_date}.json") as stream:
            stream.write(json.dumps(report).encode())

    def check_writable(self) -> None:
        """Raise InputError where the lake cannot be written: before any work is done."""
        probe = f"{self.uri}/_status/.probe-{uuid.uuid4().hex}"
        try:
            filesystem, path = FileSystem.from_uri(probe)
            filesystem.create_dir(path.rpartition("/")[0], recursive=True)
            with filesystem.open_output_stream(path) as stream:
                stream.write(b"")
            filesystem.delete_file(path)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"lake {self.uri} is not writable: {error}") from error

    def _open(self, table: Table, version: int | None = None) -> DeltaTable | None:
        try:
            return DeltaTable(self.table_uri(table), version=version)
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as error:
            raise InputError(f"table '{table.name}' in lake {self.uri} cannot be read: {error}") from error


def _parquet(spark: "SparkSession", table: Table, uris: list[str]) -> "DataFrame":
    """Exactly these files: nothing is listed and no schema guessed."""
    files = [_spark_path(uri) for uri in uris]
    return spark.read.schema(table.ddl).parquet(*files) if files else spark.createDataFrame([], table.ddl)


def _spark_path(uri: str) -> str:
    return "s3a://" + uri.removeprefix("s3://") if uri.startswith("s3://") else uri


def _write(
    batches: Iterator[pa.RecordBatch], make: Make | None, uri: str, schema: pa.Schema, keys: list[str]
) -> Iterator[pa.RecordBatch]:
    """One task: all its rows into one file with a name that no other attempt can have."""
    notes: Notes = {}
    filesystem, folder = FileSystem.from_uri(uri)
    name = f"part-{uuid.uuid4().hex}.parquet"
    writer, rows, bounds = None, 0, _Bounds(keys)
    dictionary = [field.name for field in schema if field.type == pa.string()]
    for batch in make(batches, notes) if make else batches:
        if batch.num_rows == 0:
            continue
        if writer is None:
            writer = pq.ParquetWriter(
                f"{folder}/{name}",
                schema,
                filesystem=filesystem,
                compression="zstd",
                use_dictionary=dictionary,
                write_page_checksum=True,
            )
        chunk = pa.Table.from_batches([batch]).cast(schema)
        writer.write_table(chunk, row_group_size=ROW_GROUP_ROWS)
        rows += chunk.num_rows
        bounds.add(chunk)
    stats, size, path = None, 0, None
    if writer is not None:
        writer.close()
        path, size = name, filesystem.get_file_info(f"{folder}/{name}").size
        stats = json.dumps({"numRecords": rows, **bounds.as_stats()})
    if path or notes:
        told = {"path": path, "bytes": size, "rows": rows, "stats": stats, "notes": json.dumps(notes)}
        yield pa.RecordBatch.from_pylist([told], _FILE_SCHEMA)


class _Bounds:
    """Minimum and maximum of the key columns: lets any Delta reader skip files."""

    def __init__(self, keys: list[str]) -> None:
        self._keys, self._low, self._high = keys, dict[str, Any](), dict[str, Any]()

    def add(self, chunk: pa.Table) -> None:
        for key in self._keys:
            found = pc.min_max(chunk[key]).as_py()
            self._low[key] = min(found["min"], self._low.get(key, found["min"]))
            self._high[key] = max(found["max"], self._high.get(key, found["max"]))

    def as_stats(self) -> dict[str, Any]:
        return {"minValues": self._low, "maxValues": self._high, "nullCount": dict.fromkeys(self._keys, 0)}
