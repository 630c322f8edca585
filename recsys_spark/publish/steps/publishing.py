"""Write, audit, publish: what every step does with its result."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame

from recsys_spark.errors import InputError
from recsys_spark.lake.lake import Commit, Staged
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

    def described(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """``facts`` as a commit keeps them: with the versions that the next run compares with."""
        return {**facts, "versions": dict(self.versions), "identities": dict(self.identities)}


def pin_inputs(run: Run, *tables: Table) -> InputVersions:
    """Fix the newest version of each table.

    Raises:
        InputError: naming every table that is missing.
    """
    heads = {table.name: run.lake.last_commit(table) for table in tables}
    missing = [name for name, head in heads.items() if head is None]
    if missing:
        raise InputError(
            f"lake {run.lake.uri} has no table {', '.join(missing)}: run the job that makes it first (README, The flow)"
        )
    found = {name: head for name, head in heads.items() if head is not None}
    versions = {name: head.version for name, head in found.items()}
    content_ids, identities = (
        {name: getattr(h, part) for name, h in found.items()} for part in ("content_id", "identity")
    )
    return InputVersions(versions, content_ids, identities)


def run_key(step: str, facts: Mapping[str, Any]) -> str:
    """Names a run by everything that its result depends on: the same key means the same rows."""
    return f"{step}:{hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:24]}"


def unchanged(run: Run, key: str, *tables: Table) -> Report | None:
    """The report of a run that finds its own result already published; None where there is work to do."""
    if any(run.lake.published_by(table, key) is None for table in tables):
        return None
    if not run.dry_run:
        complete_log(run, key, tables)
    return {"status": "unchanged", "tables": {table.name: run.lake.rows(table) for table in tables}}


def publish(
    run: Run, key: str, frame: DataFrame, table: Table, facts: Mapping[str, Any], *, if_empty: str | None = None
) -> Report:
    """Stage and commit one table as a whole snapshot.

    Raises:
        InputError: there are no rows and the caller says with ``if_empty`` what that means; nothing is published.
        ConflictError: somebody else published the table meanwhile.
    """
    staged = run.lake.stage(frame, table)
    if if_empty is not None and not staged.rows:
        raise InputError(if_empty)
    return publish_staged(run, key, staged, facts)


def publish_staged(run: Run, key: str, staged: Staged, facts: Mapping[str, Any]) -> Report:
    """Commit what is staged as a whole snapshot."""
    run.lake.commit(staged, key, facts=facts)
    return {"status": "done", "tables": {staged.table.name: staged.rows}}


def republish(run: Run, key: str, head: Commit, table: Table, facts: Mapping[str, Any]) -> Report:
    """Commit that what the table shows is the result of this run too; no file is written. What the last commit tells
    of these rows (``about``) stays true: the next drift gate compares with it."""
    assert head.content is not None, "without a content a commit of no files would empty the table"
    about = {name: told for name, told in head.facts.get("about", {}).items() if name != "changes"}
    rows, facts = run.lake.rows(table), {**facts, "about": about | dict(facts.get("about", {}))}
    run.lake.commit(Staged(table, [], rows, [], head.content, head.version), key, facts=facts)
    return {"status": "unchanged", "tables": {table.name: rows}}
