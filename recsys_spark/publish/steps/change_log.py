"""``changes``: what every version of a table has that the one before it had not."""

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
    """A version of a table: in words what of it was made anew, its rows, and how many are new, changed, gone."""

    table: str
    made: str
    rows: int
    kinds: Kinds

    def record(self, run_date: date | None) -> ChangeRecord:
        """For the commit of the version: a run that is killed before it has written the log leaves it there."""
        return ChangeRecord(self.made, self.rows, self.kinds, None if run_date is None else str(run_date))


def log_changes(run: Run, key: str, run_date: Any, changes: Sequence[Change]) -> None:
    """Add rows to the log, once for the run ``key``. After their tables are published: no row is of a version that
    never was."""
    if not changes or run.lake.has_commit(CHANGES, key):
        return
    rows = [(run_date, c.table, c.made, c.rows, *(c.kinds.get(kind, 0) for kind in KINDS)) for c in changes]
    log = run.spark.createDataFrame(rows, CHANGES.ddl).coalesce(1)
    run.lake.commit(run.lake.stage(log, CHANGES), key, append=True)


def complete_log(run: Run, key: str, tables: Sequence[Table]) -> None:
    """Add the rows that the run ``key`` left out when it was killed after it had published the tables."""
    if run.lake.has_commit(CHANGES, key):
        return
    records = {table.name: record for table in tables if (record := _record(run.lake.last_commit(table), key))}
    changes = [Change(name, record.made, record.rows, record.kinds) for name, record in records.items()]
    days = [record.run_date for record in records.values() if record.run_date]
    log_changes(run, key, date.fromisoformat(days[0]) if days else None, changes)


def _record(commit: Commit | None, key: str) -> ChangeRecord | None:
    return commit.outcome.changes if commit is not None and commit.key == key else None


def snapshot_change(run: Run, staged: Staged, made: str, key: str) -> Change:
    """What a staged snapshot changes: by key where that is one column, else whole rows that are new or gone. Without a
    look at the rows where both hold the same."""
    table, last = staged.table, run.lake.last_commit(staged.table)
    if (record := _record(last, key)) and not run.lake.has_commit(CHANGES, key):  # the run was killed and runs again
        return Change(table.name, record.made, record.rows, record.kinds)
    if last is not None and staged.content is not None and staged.content == last.content:
        return Change(table.name, "none", staged.rows, {})
    if staged.added is not None:
        return Change(table.name, made, staged.rows, dict.fromkeys(KINDS, 0) | {"added": staged.added})
    new = run.lake.read_staged(run.spark, staged)
    old = new.limit(0) if last is None else run.lake.read(run.spark, table, last.version)
    kinds = change_kinds(old, new, table.key[0]) if len(table.key) == 1 else row_kinds(old, new)
    return Change(table.name, made, staged.rows, counted(kinds))


def counted(kinds: DataFrame) -> dict[str, int]:
    """Rows by kind."""
    counts = {row["kind"]: row["count"] for row in kinds.groupBy("kind").count().collect()}
    return {kind: counts.get(kind, 0) for kind in KINDS}
