"""The table ``changes``: how many rows every published version added, changed and removed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from pyspark.sql import DataFrame

from recsys_spark.lake.lake import Commit, Staged
from recsys_spark.lake.provenance import ChangeRecord
from recsys_spark.publish.changes import KINDS, change_kinds, row_kinds
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import CHANGES, Table

Kinds = Mapping[str, int]


@dataclass(frozen=True)
class Change:
    """What a version of a table changed."""

    table: str
    scope: str
    """In words which rows were computed, and why."""
    rows: int
    """Rows of the whole version."""
    kinds: Kinds
    """Number of rows added, changed and removed."""

    def record(self, run_date: date | None) -> ChangeRecord:
        """The change for the version's commit, where it survives if the run is killed before it writes the log."""
        return ChangeRecord(self.scope, self.rows, self.kinds, None if run_date is None else str(run_date))


def log_changes(run: Run, key: str, run_date: Any, changes: Sequence[Change]) -> None:
    """Add rows to the log, once for the run ``key``.

    Call it after the tables are published, so that the log has no row of a version that was never published.
    """
    if not changes or run.lake.has_commit(CHANGES, key):
        return
    rows = [(run_date, c.table, c.scope, c.rows, *(c.kinds.get(kind, 0) for kind in KINDS)) for c in changes]
    log = run.spark.createDataFrame(rows, CHANGES.ddl).coalesce(1)
    run.lake.commit(run.lake.stage(log, CHANGES), key, append=True)


def complete_log(run: Run, key: str, tables: Sequence[Table]) -> None:
    """Add the rows that are missing if the run ``key`` was killed after it published the tables."""
    if run.lake.has_commit(CHANGES, key):
        return
    records = {table.name: record for table in tables if (record := _record(run.lake.last_commit(table), key))}
    changes = [Change(name, record.made, record.rows, record.kinds) for name, record in records.items()]
    days = [record.run_date for record in records.values() if record.run_date]
    log_changes(run, key, date.fromisoformat(days[0]) if days else None, changes)


def _record(commit: Commit | None, key: str) -> ChangeRecord | None:
    return commit.outcome.changes if commit is not None and commit.key == key else None


def snapshot_change(run: Run, staged: Staged, scope: str, key: str) -> Change:
    """Count the changes of a staged snapshot: by key if that is one column, else in whole rows added or removed. No
    rows are read if the content is the same."""
    table, last = staged.table, run.lake.last_commit(staged.table)
    if (record := _record(last, key)) and not run.lake.has_commit(CHANGES, key):  # the run was killed and is repeated
        return Change(table.name, record.made, record.rows, record.kinds)
    if last is not None and staged.content is not None and staged.content == last.content:
        return Change(table.name, "none", staged.rows, {})
    if staged.added is not None:
        return Change(table.name, scope, staged.rows, dict.fromkeys(KINDS, 0) | {"added": staged.added})
    new = run.lake.read_staged(run.spark, staged)
    old = new.limit(0) if last is None else run.lake.read(run.spark, table, last.version)
    kinds = change_kinds(old, new, table.key[0]) if len(table.key) == 1 else row_kinds(old, new)
    return Change(table.name, scope, staged.rows, counts_by_kind(kinds))


def counts_by_kind(kinds: DataFrame) -> dict[str, int]:
    """Count rows by kind."""
    counts = {row["kind"]: row["count"] for row in kinds.groupBy("kind").count().collect()}
    return {kind: counts.get(kind, 0) for kind in KINDS}
