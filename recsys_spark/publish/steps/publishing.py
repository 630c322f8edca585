"""Write, audit, publish: what every step does with its result."""

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
    """The versions that a step reads, fixed before it starts."""

    versions: Mapping[str, int]
    content_ids: Mapping[str, str]
    """What run keys are made of: version numbers start over where a table is dropped and made again."""
    identities: Mapping[str, str]

    def frame(self, run: Run, table: Table) -> DataFrame:
        """The fixed version of a table."""
        return run.lake.read(run.spark, table, self.versions[table.name])

    def recorded_in(self, provenance: Provenance) -> Provenance:
        """``provenance`` with the versions that the next run compares with."""
        return replace(provenance, versions=dict(self.versions), identities=dict(self.identities))


def pin_inputs(run: Run, *tables: Table) -> InputVersions:
    """Fix the newest version of each table.

    Raises:
        InputError: naming every table that is missing.
    """
    commits = {table.name: run.lake.last_commit(table) for table in tables}
    missing = [name for name, commit in commits.items() if commit is None]
    if missing:
        raise InputError(
            f"lake {run.lake.uri} has no table {', '.join(missing)}: run the job that makes it first (README, How it works)"
        )
    pinned = {name: commit for name, commit in commits.items() if commit is not None}
    return InputVersions(
        {name: commit.version for name, commit in pinned.items()},
        {name: commit.content_id for name, commit in pinned.items()},
        {name: commit.identity for name, commit in pinned.items()},
    )


def run_key(step: str, provenance: Provenance | Mapping[str, Any]) -> str:
    """Name a run by everything that its result depends on: the same key means the same rows."""
    content = provenance.to_json() if isinstance(provenance, Provenance) else provenance
    return f"{step}:{hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:24]}"


def unchanged(run: Run, key: str, *tables: Table) -> Report | None:
    """The report of a run that finds its own result already published; None where there is work to do."""
    if any(run.lake.published_by(table, key) is None for table in tables):
        return None
    if not run.dry_run:
        complete_log(run, key, tables)
    return {"status": "unchanged", "tables": {table.name: run.lake.rows(table) for table in tables}}


def publish(
    run: Run, key: str, frame: DataFrame, table: Table, provenance: Provenance, *, if_empty: str | None = None
) -> Report:
    """Stage and commit one table as a whole snapshot.

    Raises:
        InputError: there are no rows and the caller says with ``if_empty`` what that means; nothing is published.
        ConflictError: somebody else published the table meanwhile.
    """
    staged = run.lake.stage(frame, table)
    if if_empty is not None and not staged.rows:
        raise InputError(if_empty)
    return publish_staged(run, key, staged, provenance)


def publish_staged(
    run: Run, key: str, staged: Staged, provenance: Provenance, outcome: Outcome | None = None
) -> Report:
    """Commit staged files as a whole snapshot."""
    run.lake.commit(staged, key, provenance=provenance, outcome=outcome)
    return {"status": "done", "tables": {staged.table.name: staged.rows}}


def republish(run: Run, key: str, last: Commit, table: Table, provenance: Provenance) -> Report:
    """Commit that the rows of the last version are the result of this run too; no file is written.

    The outcome of the last commit stays true, but for its changes: the next drift gate compares with it.
    """
    assert last.content is not None, "without a content a commit of no files would empty the table"
    rows, outcome = run.lake.rows(table), replace(last.outcome, changes=None)
    staged = Staged(table, [], rows, [], last.content, last.version)
    run.lake.commit(staged, key, provenance=provenance, outcome=outcome)
    return {"status": "unchanged", "tables": {table.name: rows}}
