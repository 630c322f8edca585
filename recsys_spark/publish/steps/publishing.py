"""Pin the inputs of a step, name its run and commit its result."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pyspark.sql import DataFrame

from recsys_spark.errors import InputError
from recsys_spark.lake.lake import Commit, Staged
from recsys_spark.lake.provenance import Outcome, Provenance
from recsys_spark.publish.steps.change_log import complete_log
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import Table

Report = dict[str, Any]


@dataclass(frozen=True)
class InputVersions:
    """The versions that a step reads, pinned before it starts; all by table."""

    versions: Mapping[str, int]
    content_ids: Mapping[str, str]
    """For run keys. Versions do not serve: those of a recreated table count from 0 again."""
    identities: Mapping[str, str]

    def frame(self, run: Run, table: Table) -> DataFrame:
        """The pinned version of a table."""
        return run.lake.read(run.spark, table, self.versions[table.name])

    def recorded_in(self, provenance: Provenance) -> Provenance:
        """Add the versions to ``provenance``, for the comparison of the next run."""
        return replace(provenance, versions=dict(self.versions), identities=dict(self.identities))


def pin_inputs(run: Run, *tables: Table) -> InputVersions:
    """Pin the newest version of each table.

    Raises:
        InputError: tables are missing; it names all of them.
    """
    commits = {table.name: run.lake.last_commit(table) for table in tables}
    missing = [name for name, commit in commits.items() if commit is None]
    if missing:
        raise InputError(
            f"lake {run.lake.uri} has no table {', '.join(missing)}: run the jobs that make these tables first "
            "(README, How it works)"
        )
    pinned = {name: commit for name, commit in commits.items() if commit is not None}
    return InputVersions(
        {name: commit.version for name, commit in pinned.items()},
        {name: commit.content_id for name, commit in pinned.items()},
        {name: commit.identity for name, commit in pinned.items()},
    )


def run_key(step: str, provenance: Provenance | Mapping[str, Any]) -> str:
    """Name a run by all that its result depends on: runs with the same key publish the same rows."""
    content = provenance.to_json() if isinstance(provenance, Provenance) else provenance
    return f"{step}:{hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:24]}"


def unchanged(run: Run, key: str, *tables: Table) -> Report | None:
    """The report of a run whose result is published already; None if there is work to do."""
    if any(run.lake.published_by(table, key) is None for table in tables):
        return None
    if not run.dry_run:
        complete_log(run, key, tables)
    return {"status": "unchanged", "tables": {table.name: run.lake.rows(table) for table in tables}}


def publish_staged(
    run: Run, key: str, staged: Staged, provenance: Provenance, outcome: Outcome | None = None
) -> Report:
    """Commit staged files as a snapshot.

    Raises:
        ConflictError: another run published the table since this one started.
    """
    run.lake.commit(staged, key, provenance=provenance, outcome=outcome)
    return {"status": "done", "tables": {staged.table.name: staged.rows}}


def republish(run: Run, key: str, last: Commit, table: Table, provenance: Provenance) -> Report:
    """Commit the rows of the last version as the result of this run too. No file is written.

    The commit repeats the outcome of the last one, except its changes, since the next drift gate compares with it.
    """
    assert last.content is not None, "without content, a commit of no files would empty the table"
    rows, outcome = run.lake.rows(table), replace(last.outcome, changes=None)
    staged = Staged(table, [], rows, [], last.content, last.version)
    run.lake.commit(staged, key, provenance=provenance, outcome=outcome)
    return {"status": "unchanged", "tables": {table.name: rows}}
