"""``changes``: what every version of a table has that the one before it had not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from pyspark.sql import DataFrame

from recsys_spark.lake.lake import Commit, Staged
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

    def about(self, run_date: Any) -> dict[str, Any]:
        """For the commit of the version: a run that is killed before it has written the log leaves it there."""
        return {"changes": {"made": self.made, "rows": self.rows, "kinds": self.kinds, "run_date": run_date}}


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
    found = {table.name: told for table in tables if (told := _told(run.lake.last_commit(table), key))}
    changes = [Change(name, told["made"], told["rows"], told["kinds"]) for name, told in found.items()]
    days = [told["run_date"] for told in found.values() if told["run_date"]]
    log_changes(run, key, date.fromisoformat(days[0]) if days else None, changes)


def _told(head: Commit | None, key: str) -> dict[str, Any] | None:
    return head.facts.get("about", {}).get("changes") if head is not None and head.key == key else None


def snapshot_change(run: Run, staged: Staged, made: str, key: str) -> Change:
    """What a staged snapshot changes: by key where that is one column, else whole rows that are new or gone. Without a
    look at the rows where both hold the same."""
    table, head = staged.table, run.lake.last_commit(staged.table)
    if (told := _told(head, key)) and not run.lake.has_commit(CHANGES, key):  # the run was killed and has come back
        return Change(table.name, told["made"], told["rows"], told["kinds"])
    if head is not None and staged.content is not None and staged.content == head.content:
        return Change(table.name, "none", staged.rows, {})
    if staged.added is not None:
        return Change(table.name, made, staged.rows, dict.fromkeys(KINDS, 0) | {"added": staged.added})
    new = run.lake.read_staged(run.spark, staged)
    old = new.limit(0) if head is None else run.lake.read(run.spark, table, head.version)
    kinds = change_kinds(old, new, table.key[0]) if len(table.key) == 1 else row_kinds(old, new)
    return Change(table.name, made, staged.rows, counted(kinds))


def counted(kinds: DataFrame) -> dict[str, int]:
    """Rows by kind."""
    found = {row["kind"]: row["count"] for row in kinds.groupBy("kind").count().collect()}
    return {kind: found.get(kind, 0) for kind in KINDS}
