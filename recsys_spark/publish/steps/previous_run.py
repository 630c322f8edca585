"""What a table was last made of: its commit names the versions that it read, so the state of a refresh is the lake."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from pyspark.sql import DataFrame

from recsys_spark.lake.lake import Commit
from recsys_spark.publish.changes import changed_groups, users_of_days
from recsys_spark.publish.steps.publishing import InputVersions
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.run_date import events_before
from recsys_spark.tables.schemas import EVENTS, TABLES, Table


@dataclass(frozen=True)
class Previous:
    """The last run of a step, from which the next one starts."""

    run: Run
    table: Table
    head: Commit

    @property
    def run_date(self) -> date:
        """Its clock."""
        return date.fromisoformat(self.head.facts["run_date"])

    def rows(self) -> DataFrame:
        """What it published."""
        return self.run.lake.read(self.run.spark, self.table, self.head.version)

    def files(self) -> list[str]:
        """The data files of what it published."""
        return self.run.lake.file_uris(self.table, self.head.version)

    def frame(self, table: Table) -> DataFrame:
        """What it read."""
        return self.run.lake.read(self.run.spark, table, self.head.facts["versions"][table.name])

    def saw(self, table: Table, inputs: InputVersions) -> bool:
        """Whether it read what ``known`` shows."""
        return bool(self.head.facts["inputs"].get(table.name) == inputs.content_ids.get(table.name))

    def other_events(self, inputs: InputVersions, run_date: date) -> DataFrame:
        """``user_id`` of those whose events before the run date are not what they were."""
        if self.saw(EVENTS, inputs):
            return users_of_days(inputs.frame(self.run, EVENTS), self.run_date, run_date)
        versions = (self.head.facts["versions"][EVENTS.name], inputs.versions[EVENTS.name])
        was, now, both = self.run.lake.differing(self.run.spark, EVENTS, *versions)
        others = changed_groups(events_before(was, self.run_date), events_before(now, run_date), "user_id")
        return others.union(users_of_days(both, self.run_date, run_date)).distinct()


def previous(run: Run, table: Table, facts: Mapping[str, Any]) -> Previous | str:
    """The last run of the step that publishes ``table``, or in words why the whole table must be made.

    ``facts``: what the new run depends on (``run_key``); its settings must be those of the last one.
    """
    head = run.lake.last_commit(table)
    if head is None:
        return "it is the first run"
    if head.key is None or "identities" not in head.facts:
        return "the last version does not say what it was made of"
    for name in sorted((set(facts) | set(head.facts)) - {"inputs", "versions", "identities", "run_date", "about"}):
        was, now = head.facts.get(name), _as_stored(facts.get(name))
        if was != now:
            return f"{name} was {was}, is {now}"
    gone = [name for name in head.facts["versions"] if not _there(run, name, head.facts)]
    if gone or not run.lake.can_read(table, head.version):
        return f"the versions it was made of are gone: {', '.join(gone or [table.name])}"
    return Previous(run, table, head)


def _there(run: Run, name: str, facts: Mapping[str, Any]) -> bool:
    """Whether the version that was read can be read again: not vacuumed, and of the same table."""
    now = run.lake.last_commit(TABLES[name])
    same = now is not None and now.identity == facts["identities"][name]
    return same and run.lake.can_read(TABLES[name], facts["versions"][name])


def _as_stored(value: Any) -> Any:
    return json.loads(json.dumps(value, sort_keys=True, default=str))
