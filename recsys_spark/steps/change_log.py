"""``changes``: what every version of a table has that the one before it had not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame

from recsys_spark.changes import KINDS, change_kinds, row_kinds
from recsys_spark.job import Run
from recsys_spark.lake import Staged
from recsys_spark.tables import CHANGES

Kinds = Mapping[str, int]


@dataclass(frozen=True)
class Change:
    """A table about to be published: in words what of it was made anew, its rows, and how many are new, changed,
    gone."""

    table: str
    made: str
    rows: int
    kinds: Kinds


def log_changes(run: Run, key: str, run_date: Any, changes: Sequence[Change]) -> None:
    """Add rows to the log, once for the run ``key``. Before their tables are published: a run that is killed in between
    is the same run when it comes back."""
    if not changes or run.lake.has_commit(CHANGES, key):
        return
    rows = [(run_date, c.table, c.made, c.rows, *(c.kinds.get(kind, 0) for kind in KINDS)) for c in changes]
    log = run.spark.createDataFrame(rows, CHANGES.ddl).coalesce(1)
    run.lake.commit(run.lake.stage(log, CHANGES), key, append=True)


def snapshot_change(run: Run, staged: Staged, made: str) -> Change:
    """What a staged snapshot changes: by key where that is one column, else whole rows that are new or gone. Without a
    look at the rows where both hold the same."""
    table, head = staged.table, run.lake.head(staged.table)
    if head is not None and staged.content is not None and staged.content == head.content:
        return Change(table.name, "none", staged.rows, {})
    new = run.lake.read_staged(run.spark, staged)
    old = new.limit(0) if head is None else run.lake.read(run.spark, table, head.version)
    kinds = change_kinds(old, new, table.key[0]) if len(table.key) == 1 else row_kinds(old, new)
    return Change(table.name, made, staged.rows, counted(kinds))


def counted(kinds: DataFrame) -> dict[str, int]:
    """Rows by kind."""
    found = {row["kind"]: row["count"] for row in kinds.groupBy("kind").count().collect()}
    return {kind: found.get(kind, 0) for kind in KINDS}
