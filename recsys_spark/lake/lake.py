"""Delta tables that executors write and the driver commits. All storage of tables goes through this package.

Executors write Parquet files that no reader sees yet; the driver makes one atomic Delta commit that names them. A
killed job leaves at most files that no commit names. Readers always get one whole version.
"""

import json
import time
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.transaction import AddAction
from pyarrow.fs import FileSelector, FileSystem, FileType

from recsys_spark.errors import InputError
from recsys_spark.errors.failpoints import failpoint
from recsys_spark.lake.commits import (
    Commit,
    Staged,
    commit_files,
    commits_of,
    content_of,
    data_files_of,
    open_table,
    remove,
    restore_version,
)
from recsys_spark.lake.data_files import FILE_DDL, first_row, read_files, write_files
from recsys_spark.lake.paths import delta_uri, lake_path
from recsys_spark.lake.plain_files import PlainFiles
from recsys_spark.lake.provenance import Outcome, Provenance, to_json
from recsys_spark.tables.digest import DIGEST, row_digest
from recsys_spark.tables.schemas import Table
from recsys_spark.tables.task_stream import ArrowTransform

if TYPE_CHECKING:
    from pyspark.resource import ResourceProfile
    from pyspark.sql import DataFrame, SparkSession


class Lake:
    """A folder (local path, ``s3://`` or any URI that deltalake and pyarrow share) with one Delta table per name."""

    def __init__(self, uri: str) -> None:
        self.uri = lake_path(uri)
        self.plain = PlainFiles(self.uri)
        self._appended: dict[tuple[str, str], int] = {}

    def table_uri(self, table: Table) -> str:
        """The URI of the table."""
        return f"{self.uri}/{table.name}"

    def version(self, table: Table) -> int | None:
        """The newest version of the log; None if the table was never published. It includes commits of vacuum: to
        compare two runs, use ``Commit.version``."""
        delta = self._open(table)
        return None if delta is None else delta.version()

    def last_commit(self, table: Table) -> Commit | None:
        """The newest commit that may have changed the rows of the table; None if it was never published."""
        return next(iter(self.commits(table)), None)

    def commits(self, table: Table, most: int = 1) -> list[Commit]:
        """The newest commits that may have changed the rows of the table, newest first."""
        return list(islice(self.history(table), most))

    def history(self, table: Table) -> Iterator[Commit]:
        """All commits that the log still has and that may have changed the rows of the table, newest first."""
        delta = self._open(table)
        return iter(()) if delta is None else commits_of(delta)

    def restore(self, table: Table, commit: Commit) -> int:
        """Show the rows of an older commit again, by a new commit that names its files.

        Raises:
            ConflictError: another writer committed meanwhile.
        """
        return restore_version(self.table_uri(table), table.name, commit)

    def published_by(self, table: Table, key: str) -> int | None:
        """The version that the run ``key`` published, if no other run has published since."""
        last = self.last_commit(table)
        return last.version if last and last.key == key else None

    def can_read(self, table: Table, version: int) -> bool:
        """Whether all files of a version exist: vacuum removes those of old versions.

        Raises:
            RetryError: the store does not answer, which does not mean that files are missing.
        """
        try:
            delta = self._open(table, version)
        except InputError:
            return False
        if delta is None:
            return False
        files = delta.file_uris()
        filesystem, folder = FileSystem.from_uri(self.table_uri(table))
        paths = [f"{folder}/{uri.rpartition('/')[2]}" for uri in files]
        return all(info.type == FileType.File for info in filesystem.get_file_info(paths))

    def has_commit(self, table: Table, key: str) -> bool:
        """Whether the run ``key`` ever committed to the table: for append-only tables.

        ``commit`` then recognises commits of the same run that another process makes after this call.
        """
        delta = self._open(table)
        appends = None if delta is None else delta.transaction_version(key)
        self._appended[table.name, key] = appends or 0
        return appends is not None

    def last_batch(self, table: Table, stream: str) -> int:
        """The number of the last batch of a stream in the table, from 1; 0 if it has none."""
        delta = self._open(table)
        return 0 if delta is None else delta.transaction_version(stream) or 0

    def outcome_of(self, table: Table, key: str) -> Outcome:
        """The outcome of the newest commit of the run ``key``; empty if the log has none."""
        delta = self._open(table)
        commits = iter(()) if delta is None else commits_of(delta)
        return next((commit.outcome for commit in commits if commit.key == key), Outcome())

    def rows(self, table: Table) -> int:
        """The number of rows of the newest version, from the commit log: no data file is read."""
        delta = self._open(table)
        return 0 if delta is None else sum(data_files_of(delta)["num_records"].to_pylist())

    def data_files(self, table: Table) -> pa.Table:
        """The data files of the newest version of a table that exists: ``path``, ``size_bytes``, ``num_records`` …"""
        delta = self._open(table)
        assert delta is not None, f"table '{table.name}' exists"
        return data_files_of(delta)

    def size(self, table: Table, version: int) -> int:
        """The size of the data files of a version, in bytes."""
        delta = self._open(table, version)
        return 0 if delta is None else sum(data_files_of(delta)["size_bytes"].to_pylist())

    def read(self, spark: "SparkSession", table: Table, version: int | None = None) -> "DataFrame":
        """Read one whole version, by default the newest.

        Raises:
            InputError: the table or the version does not exist, or a file that the log names is missing.
        """
        delta = self._open(table, version)
        if delta is None:
            raise InputError(
                f"table '{table.name}' is missing in lake {self.uri}: run the job that makes it (README, How it works)"
            )
        return read_files(spark, table, self._uris(table, delta))

    def first(self, table: Table, version: int, *columns: str) -> dict[str, Any] | None:
        """The first row of a version, for columns that are the same in every row; None if it has none. The driver reads
        it without Spark, so that a run with nothing to do starts no session."""
        schema = pa.schema([table.arrow_schema.field(name) for name in columns])
        return first_row(self.file_uris(table, version), schema)

    def differing(
        self, spark: "SparkSession", table: Table, old: int, new: int
    ) -> tuple["DataFrame", "DataFrame", "DataFrame"]:
        """Compare two versions by files: the rows of files only in ``old``, only in ``new``, and in both."""
        was, now = (dict.fromkeys(self.file_uris(table, version)) for version in (old, new))
        parts = [[u for u in was if u not in now], [u for u in now if u not in was], [u for u in now if u in was]]
        removed, added, unchanged = (read_files(spark, table, uris) for uris in parts)
        return removed, added, unchanged

    def file_uris(self, table: Table, version: int) -> list[str]:
        """The URIs of the data files of a version."""
        delta = self._open(table, version)
        return [] if delta is None else self._uris(table, delta)

    def _uris(self, table: Table, delta: DeltaTable) -> list[str]:
        # Delta encodes its URIs (a space is %20); neither Spark nor pyarrow decodes them.
        return [f"{self.table_uri(table)}/{uri.rpartition('/')[2]}" for uri in delta.file_uris()]

    def read_or_empty(self, spark: "SparkSession", table: Table) -> "DataFrame":
        """The newest version, or no rows if the table was never published."""
        return read_files(spark, table, []) if self.version(table) is None else self.read(spark, table)

    def read_staged(self, spark: "SparkSession", staged: Staged) -> "DataFrame":
        """The rows of staged files, for audits before publishing."""
        folder = self.table_uri(staged.table)
        return read_files(spark, staged.table, [f"{folder}/{action.path}" for action in staged.actions])

    def stage(
        self,
        frame: "DataFrame",
        table: Table,
        transform: ArrowTransform | None = None,
        profile: "ResourceProfile | None" = None,
        base: int | None = None,
        digest: bool = False,
    ) -> Staged:
        """Run the plan: every task writes its rows to a file and returns only the file's metadata.

        The driver gets one row for each task, for any number of users and events.

        Args:
            frame: the rows of the table, or the input of ``transform``.
            table: the contract.
            transform: the last transformation, in the Python process that also writes. As a stage of its own it would
                have a second process, and its model would be loaded in both.
            profile: resources of the tasks.
            base: ``Commit.version`` that ``frame`` was made from, if it was made from the table itself; by default the
                version that is shown now.
            digest: ``frame`` has the columns of the table already, and ``transform`` passes them and DIGEST on.
        """
        columns = dict(frame.dtypes)
        if transform is None and columns != table.columns:
            raise TypeError(f"table '{table.name}' has the columns {table.columns}, the rows to write have {columns}")
        if base is None and (last := self.last_commit(table)) is not None:
            base = last.version
        uri, schema, checks = self.table_uri(table), table.arrow_schema, table.checks
        # No bounds of ids: they would stay in the log for good, also those of users who asked to be forgotten.
        keys = [c for c in table.key if table.columns[c] in ("string", "int", "bigint") and not c.endswith("_id")]
        filesystem, path = FileSystem.from_uri(uri)
        filesystem.create_dir(path, recursive=True)
        if transform is None:
            frame = frame.select(*table.columns)
        if transform is None or digest:
            frame = frame.withColumn(DIGEST, row_digest(list(table.columns)))
        failpoint("stage.before", table.name)
        written = frame.mapInArrow(
            lambda batches: write_files(batches, transform, uri, schema, keys, checks), FILE_DDL, profile=profile
        )
        tasks = written.collect()
        failpoint("stage.after", table.name)
        now = int(time.time() * 1000)  # Delta keeps the age of files, for vacuum; no result depends on it
        files = sorted((row for row in tasks if row["path"]), key=lambda row: row["path"])
        actions = [AddAction(row["path"], row["bytes"], {}, now, True, row["stats"]) for row in files]
        rows = sum(row["rows"] for row in files)
        content = content_of(rows, sum(row["digest"] for row in files)) if DIGEST in frame.columns else None
        return Staged(table, actions, rows, [json.loads(row["notes"]) for row in tasks], content, base)

    def discard(self, staged: Staged) -> None:
        """Remove staged files that no commit will name."""
        remove(self.table_uri(staged.table), staged.actions)

    def commit(
        self,
        staged: Staged,
        key: str,
        *,
        append: bool = False,
        exclusive: bool = False,
        provenance: Provenance | None = None,
        outcome: Outcome | None = None,
        batch: int | None = None,
    ) -> int:
        """Publish staged files in one atomic commit, marked with the run's key. Returns the new version.

        If the files hold the rows that the table shows already, the commit is made without them and they are removed.
        If another process has committed the same run since ``has_commit``, they are removed too. ``batch``: number of
        an append of the stream ``key``, counted from 1; one that is published already is not published again.

        Raises:
            ConflictError: another writer committed to the table since the work on these files began. Appends have no
                such conflict unless they are ``exclusive``.
        """
        return commit_files(
            self.table_uri(staged.table),
            staged,
            key,
            to_json(provenance, outcome),
            append=append,
            exclusive=exclusive,
            appends_before=self._appended.pop((staged.table.name, key), None),
            batch=batch,
        )

    def files(self, table: Table) -> list[str]:
        """The URIs of all data files in the table's folder, including those that no commit names."""
        filesystem, folder = FileSystem.from_uri(self.table_uri(table))
        infos = filesystem.get_file_info(FileSelector(folder, allow_not_found=True))
        names = sorted(info.base_name for info in infos if info.type == FileType.File)
        return [f"{self.table_uri(table)}/{name}" for name in names if name.endswith(".parquet")]

    def read_files(self, spark: "SparkSession", table: Table, uris: list[str]) -> "DataFrame":
        """Read these files, published or not."""
        return read_files(spark, table, uris)

    def vacuum(self, table: Table, keep_hours: int, *, dry_run: bool = False) -> list[str]:
        """Remove files that no version of the last ``keep_hours`` names, and older orphans; return their paths."""
        return DeltaTable(delta_uri(self.table_uri(table))).vacuum(
            retention_hours=keep_hours, dry_run=dry_run, enforce_retention_duration=False, full=True
        )

    def _open(self, table: Table, version: int | None = None) -> DeltaTable | None:
        return open_table(self.table_uri(table), version)
