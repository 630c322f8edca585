"""The last run of a step, by the provenance in its commit: incremental runs keep no state outside the lake."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import TypeVar

from pyspark.sql import DataFrame

from recsys_spark.lake.lake import Commit
from recsys_spark.lake.provenance import Provenance
from recsys_spark.publish.changes import changed_groups, users_of_days
from recsys_spark.publish.steps.publishing import InputVersions
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.run_date import events_before
from recsys_spark.tables.schemas import EVENTS, TABLES, Table

T = TypeVar("T")


@dataclass(frozen=True)
class FullRebuild:
    """The decision to compute all rows of a table, with its reason in words."""

    reason: str

    def __str__(self) -> str:
        return f"all: {self.reason}"


@dataclass(frozen=True)
class Previous:
    """The last run of a step, from which the next one starts."""

    run: Run
    table: Table
    commit: Commit

    @property
    def run_date(self) -> date:
        """Its ``run_date``."""
        assert self.commit.provenance.run_date is not None
        return self.commit.provenance.run_date

    def rows(self) -> DataFrame:
        """The rows it published."""
        return self.run.lake.read(self.run.spark, self.table, self.commit.version)

    def files(self) -> list[str]:
        """The data files of these rows."""
        return self.run.lake.file_uris(self.table, self.commit.version)

    def version_of(self, table: Table) -> int:
        """The version of ``table`` that it read."""
        return _pinned(self.commit.provenance.versions)[table.name]

    def frame(self, table: Table) -> DataFrame:
        """The version of ``table`` that it read."""
        return self.run.lake.read(self.run.spark, table, self.version_of(table))

    def saw(self, table: Table, inputs: InputVersions) -> bool:
        """Whether it read the same rows of ``table`` as ``inputs`` pins."""
        return _pinned(self.commit.provenance.inputs).get(table.name) == inputs.content_ids.get(table.name)

    def other_events(self, inputs: InputVersions, run_date: date) -> DataFrame:
        """``user_id`` of users whose events before the run date have changed."""
        if self.saw(EVENTS, inputs):
            return users_of_days(inputs.frame(self.run, EVENTS), self.run_date, run_date)
        versions = (self.version_of(EVENTS), inputs.versions[EVENTS.name])
        removed, added, unchanged = self.run.lake.differing(self.run.spark, EVENTS, *versions)
        users = changed_groups(events_before(removed, self.run_date), events_before(added, run_date), "user_id")
        return users.union(users_of_days(unchanged, self.run_date, run_date)).distinct()


def previous(run: Run, table: Table, provenance: Provenance) -> Previous | FullRebuild:
    """The last run of the step that publishes ``table``, or the reason to compute the whole table.

    ``provenance``: of the new run, which must have the settings of the last one.
    """
    last = run.lake.last_commit(table)
    if last is None:
        return FullRebuild("it is the first run")
    if last.key is None or last.provenance.identities is None:
        return FullRebuild("the last version does not say what it was made from")
    if (difference := provenance.other_settings(last.provenance)) is not None:
        return FullRebuild(difference)
    versions = _pinned(last.provenance.versions)
    missing = [name for name in versions if not _is_readable(run, name, last.provenance)]
    if missing or not run.lake.can_read(table, last.version):
        return FullRebuild(f"versions that it was made from no longer exist: {', '.join(missing or [table.name])}")
    return Previous(run, table, last)


def _is_readable(run: Run, name: str, provenance: Provenance) -> bool:
    """Whether the version that was read can be read again: not vacuumed, and not of a table that was recreated."""
    last = run.lake.last_commit(TABLES[name])
    same = last is not None and last.identity == _pinned(provenance.identities)[name]
    return same and run.lake.can_read(TABLES[name], _pinned(provenance.versions)[name])


def _pinned(by_table: Mapping[str, T] | None) -> Mapping[str, T]:
    return {} if by_table is None else by_table
