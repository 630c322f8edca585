"""The only storage code: Delta tables written by executors and committed by the driver.

Executors write Parquet files that nobody can see yet; the driver makes one atomic Delta commit that names them. A
killed job leaves at most files that no commit names. Readers always get one whole version.
"""

import json
import time
from itertools import islice
from typing import TYPE_CHECKING

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.transaction import AddAction
from pyarrow.fs import FileSelector, FileSystem, FileType

from recsys_spark.errors import InputError
from recsys_spark.errors.failpoints import failpoint
from recsys_spark.lake.commits import Commit, Staged, commits_of, content_of, open_table, publish, remove
from recsys_spark.lake.data_files import FILE_DDL, read_files, write_files
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
        """Where the table lies."""
        return f"{self.uri}/{table.name}"

    def version(self, table: Table) -> int | None:
        """The newest version of the log, or None where the table was never published. Vacuum counts: what two runs
        agree on is ``Commit.version``."""
        delta = self._open(table)
        return None if delta is None else delta.version()

    def last_commit(self, table: Table) -> Commit | None:
        """What the table shows and who published it; None where it was never published."""
        return next(iter(self.commits(table)), None)

    def commits(self, table: Table, most: int = 1) -> list[Commit]:
        """The newest commits that may have changed what the table shows, the last one first."""
        delta = self._open(table)
        return [] if delta is None else list(islice(commits_of(delta), most))

    def published_by(self, table: Table, key: str) -> int | None:
        """The version that the run ``key`` published, if it is still what the table shows."""
        head = self.last_commit(table)
        return head.version if head and head.key == key else None

    def can_read(self, table: Table, version: int) -> bool:
        """Whether all files of a version are still there: vacuum removes those of old ones.

        Raises:
            RetryError: the store does not answer, which says nothing of the files.
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
        return all(found.type == FileType.File for found in filesystem.get_file_info(paths))

    def has_commit(self, table: Table, key: str) -> bool:
        """Whether the run ``key`` ever committed to the table: for tables that only grow. A commit of the same run that
        comes after this answer is then recognised by ``commit``."""
        delta = self._open(table)
        known = None if delta is None else delta.transaction_version(key)
        self._appended[table.name, key] = known or 0
        return known is not None

    def outcome_of(self, table: Table, key: str) -> Outcome:
        """The outcome of the newest commit of the run ``key``; empty if the log has none."""
        delta = self._open(table)
        commits = iter(()) if delta is None else commits_of(delta)
        return next((commit.outcome for commit in commits if commit.key == key), Outcome())

    def rows(self, table: Table) -> int:
        """Rows of the newest version, from the commit log alone."""
        delta = self._open(table)
        return 0 if delta is None else sum(pa.table(delta.get_add_actions(flatten=True))["num_records"].to_pylist())

    def size(self, table: Table, version: int) -> int:
        """Bytes of the data files of a version."""
        delta = self._open(table, version)
        return 0 if delta is None else sum(pa.table(delta.get_add_actions(flatten=True))["size_bytes"].to_pylist())

    def read(self, spark: "SparkSession", table: Table, version: int | None = None) -> "DataFrame":
        """One whole version as a DataFrame.

        Raises:
            InputError: the table or the version does not exist, or the log names a file that is gone.
        """
        delta = self._open(table, version)
        if delta is None:
            raise InputError(f"table '{table.name}' is missing in lake {self.uri}: make it first (README, How it works)")
        return read_files(spark, table, self._uris(table, delta))

    def differing(
        self, spark: "SparkSession", table: Table, old: int, new: int
    ) -> tuple["DataFrame", "DataFrame", "DataFrame"]:
        """The rows of two versions: in files of the old one alone, of the new one alone, and of both."""
        was, now = (dict.fromkeys(self.file_uris(table, version)) for version in (old, new))
        parts = [[u for u in was if u not in now], [u for u in now if u not in was], [u for u in now if u in was]]
        gone, come, both = (read_files(spark, table, uris) for uris in parts)
        return gone, come, both

    def file_uris(self, table: Table, version: int) -> list[str]:
        """The data files of a version."""
        delta = self._open(table, version)
        return [] if delta is None else self._uris(table, delta)

    def _uris(self, table: Table, delta: DeltaTable) -> list[str]:
        # Delta's own are encoded (a space is %20), which neither Spark nor pyarrow takes for a path.
        return [f"{self.table_uri(table)}/{uri.rpartition('/')[2]}" for uri in delta.file_uris()]

    def read_or_empty(self, spark: "SparkSession", table: Table) -> "DataFrame":
        """The newest version, or no rows where the table was never published."""
        return read_files(spark, table, []) if self.version(table) is None else self.read(spark, table)

    def read_staged(self, spark: "SparkSession", staged: Staged) -> "DataFrame":
        """What a commit of these files would add: for audits before publishing."""
        folder = self.table_uri(staged.table)
        return read_files(spark, staged.table, [f"{folder}/{action.path}" for action in staged.actions])

    def stage(
        self,
        frame: "DataFrame",
        table: Table,
        make: ArrowTransform | None = None,
        profile: "ResourceProfile | None" = None,
        base: int | None = None,
        digest: bool = False,
    ) -> Staged:
        """Run the plan: every task writes its rows to files of its own and returns only their metadata.

        The rows returned grow with tasks, never with users or events. ``make`` is the last transformation, in the
        Python process that also writes: as a stage of its own it would have a second process, and what is loaded
        there (a model) would soon be loaded in both. ``base``: the version that ``frame`` was made from, where it was
        made from the table itself (``Commit.version``); by default the one that is shown now. ``digest``: ``frame`` has
        the columns of the table already, and ``make`` passes them and DIGEST on as they are.
        """
        found = dict(frame.dtypes)
        if make is None and found != table.columns:
            raise TypeError(f"table '{table.name}' wants {table.columns}, the transformation made {found}")
        if base is None and (head := self.last_commit(table)) is not None:
            base = head.version
        uri, schema = self.table_uri(table), table.arrow_schema
        # Bounds of ids would stay in the log for good, those of people who have asked to be forgotten among them.
        keys = [c for c in table.key if table.columns[c] in ("string", "int", "bigint") and not c.endswith("_id")]
        filesystem, path = FileSystem.from_uri(uri)
        filesystem.create_dir(path, recursive=True)
        if make is None:
            frame = frame.select(*table.columns)
        if make is None or digest:
            frame = frame.withColumn(DIGEST, row_digest(list(table.columns)))
        failpoint("stage.before", table.name)
        written = frame.mapInArrow(
            lambda batches: write_files(batches, make, uri, schema, keys), FILE_DDL, profile=profile
        )
        tasks = written.collect()
        failpoint("stage.after", table.name)
        now = int(time.time() * 1000)  # Delta's own bookkeeping of file ages, for vacuum; no result depends on it
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
        alone: bool = False,
        provenance: Provenance | None = None,
        outcome: Outcome | None = None,
    ) -> int:
        """Publish staged files in one atomic commit, marked with the run's key. Returns the new version.

        Files that hold what the table shows already are not published: the commit says so and the files are removed;
        so are those of a run that somebody else has done since ``has_commit`` was asked.

        Raises:
            ConflictError: another writer committed to the table since the work on these files began (to a table that
                only grows, where they are to be ``alone``).
        """
        first = self._appended.pop((staged.table.name, key), None)
        return publish(
            self.table_uri(staged.table),
            staged,
            key,
            to_json(provenance, outcome),
            append=append,
            alone=alone,
            first=first,
        )

    def files(self, table: Table) -> list[str]:
        """All data files in the table's folder, those that no commit names among them."""
        filesystem, folder = FileSystem.from_uri(self.table_uri(table))
        found = filesystem.get_file_info(FileSelector(folder, allow_not_found=True))
        names = sorted(info.base_name for info in found if info.type == FileType.File)
        return [f"{self.table_uri(table)}/{name}" for name in names if name.endswith(".parquet")]

    def read_files(self, spark: "SparkSession", table: Table, uris: list[str]) -> "DataFrame":
        """These files, published or not."""
        return read_files(spark, table, uris)

    def vacuum(self, table: Table, keep_hours: int, *, dry_run: bool = False) -> list[str]:
        """Remove files that no version of the last ``keep_hours`` names, and orphans as old; which they were."""
        return DeltaTable(delta_uri(self.table_uri(table))).vacuum(
            retention_hours=keep_hours, dry_run=dry_run, enforce_retention_duration=False, full=True
        )

    def _open(self, table: Table, version: int | None = None) -> DeltaTable | None:
        return open_table(self.table_uri(table), version)
