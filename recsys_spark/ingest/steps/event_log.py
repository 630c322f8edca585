"""The event log → events: of a log that only grows, a night reads the files that came since the last one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark import __version__
from recsys_spark.ingest.options import IngestOptions
from recsys_spark.ingest.validation import (
    LATE,
    repeated_events,
    superseded_events,
    unique_events,
    users_of,
    without_known,
)
from recsys_spark.lake.commits import Commit, Staged, as_append
from recsys_spark.lake.provenance import EventLogRecord
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.sources.dataset_file import Dataset
from recsys_spark.sources.files import SourceFile
from recsys_spark.sources.names import named_sources
from recsys_spark.sources.queries import is_row_by_row, query
from recsys_spark.sources.reader import knows_its_columns
from recsys_spark.tables.schemas import EVENTS, QUARANTINE, USERS
from recsys_spark.tables.task_stream import TaskStats

_MORE_FILES = 500
"""Data files of ``events`` added since the last whole reading after which the log is read whole again, and written in
as few files as a whole reading writes."""

_SMALL_FILE = 32 * 2**20
"""Mean size in bytes below which fewer files are worth that."""

_COUNTED = 10_000
"""Files of a log that a commit remembers; a log of more is read whole every night."""


@dataclass(frozen=True)
class EventLog:
    """What is read of the source of events."""

    files: list[str] | None = None
    """Those that came since the last night; None: all that there are."""
    head: Commit | None = None
    """The events that the rows of ``files`` come beside."""
    why: str = ""
    """In words why all files are read."""
    record: EventLogRecord | None = None
    """For the commit: what the next night compares with."""

    @property
    def made(self) -> str:
        """In words what of the log is read."""
        return f"all: {self.why}" if self.files is None else f"{len(self.files)} new files"

    def whole(self, why: str) -> "EventLog":
        """All of it, ``why`` it is not so already."""
        return self if self.files is None else EventLog(why=why, record=self.record)

    def record_of(self, staged: Staged) -> EventLogRecord | None:
        """For the commit of the staged events: with the number of files of the last whole reading."""
        if self.record is None:
            return None
        last = None if self.head is None else self.head.provenance.event_log
        return replace(self.record, table_files=len(staged.actions) if last is None else last.table_files)

    def with_late(self, judged: DataFrame) -> "EventLog":
        """With the time of the earliest event that is not believed yet: when its day has come all files are read."""
        if self.record is None:
            return self
        found = judged.where(F.col("reason").startswith(LATE)).agg(F.min(F.unix_seconds("timestamp"))).collect()[0][0]
        last = None if self.head is None else self.head.provenance.event_log
        times = [time for time in (found, None if last is None else last.late) if time is not None]
        return replace(self, record=replace(self.record, late=min(times, default=None)))


@dataclass(frozen=True)
class StagedEvents:
    """The events, and the judged rows that are none."""

    staged: Staged
    bad: DataFrame


def event_log(
    run: Run,
    dataset: Dataset,
    files: Mapping[str, Sequence[SourceFile]],
    options: IngestOptions,
    *,
    anew: bool,
    forgotten: str | None = None,
) -> EventLog:
    """All of the log, or only what came since the last night where that gives the same table.

    Args:
        run: the sources are views in its session.
        dataset: where the log is.
        files: those of every source, from ``list_sources``.
        options: of this night.
        anew: all of it in any case.
        forgotten: state of the tombstones; events that were stored under others may hold who must go.
    """
    name = dataset.events.source
    if name not in dataset.sources or name in _sources_of_others(dataset):
        return EventLog(why="the events have no source of their own")
    found, reading = {file.path: file.entry for file in files[name]}, _reading(dataset, name)
    record = EventLogRecord(list(found.values()), str(options.run_date), reading)
    if len(found) > _COUNTED:
        return EventLog(why=f"it is of more than {_COUNTED:,} files")
    if (head := run.lake.last_commit(EVENTS)) is None:
        return EventLog(why="it is the first run", record=record)
    if anew:
        return EventLog(why="--full asks for it", record=record)
    if head.provenance.forgotten != forgotten:
        return EventLog(why="somebody was forgotten since", record=record)
    if why := _whole(run, dataset, head, reading, options):
        return EventLog(why=why, record=record)
    before = set(head.provenance.event_log.files if head.provenance.event_log else ())
    new = [file for file, entry in found.items() if entry not in before]
    if len(found) - len(new) != len(before):
        return EventLog(why="files that were read are gone or have changed", record=record)
    return EventLog(new, head, record=record)


def staged_events(run: Run, log: EventLog, judged: DataFrame) -> StagedEvents | None:
    """None where ``log`` is a part of the whole that does not suffice: rows that are stored would have to give way.
    Which of two equal rows goes to quarantine is open where they came on different nights."""
    good, bad = (judged.where(such) for such in (F.col("reason").isNull(), F.col("reason").isNotNull()))
    stored = None if log.head is None else run.lake.read(run.spark, EVENTS, log.head.version)
    staged = run.lake.stage(unique_events(good, stored), EVENTS, _without_counts, digest=True)
    read = sum(note["rows"] for note in staged.stats) if stored is None else good.count()
    if read > staged.rows:
        if stored is not None and not superseded_events(good, stored).isEmpty():
            run.lake.discard(staged)
            return None
        bad = bad.unionByName(repeated_events(good, stored).select(*bad.columns))
    return StagedEvents(staged if log.head is None else as_append(staged, log.head), bad)


def staged_users(run: Run, log: EventLog, events: Staged) -> Staged:
    """Where a dataset describes no users: everybody who has an event."""
    users = users_of(run.lake.read_staged(run.spark, events))
    if log.head is None:
        return run.lake.stage(users, USERS)
    head = run.lake.last_commit(USERS)
    assert head is not None, "it was looked at with the log"
    new = without_known(users, run.lake.read(run.spark, USERS, head.version), ["user_id"])
    return as_append(run.lake.stage(new, USERS), head)


def kept_quarantine(run: Run, dataset: Dataset, options: IngestOptions) -> DataFrame:
    """What is in quarantine of a log of which only the new files are read. Events that are not believed yet have the
    reason that they would have if the log were read as a whole."""
    stored = run.lake.read(run.spark, QUARANTINE)
    if dataset.events.latest == "run_date":
        late = F.when(F.col("reason").startswith(LATE), f"{LATE} {options.run_date + timedelta(days=1)}")
        stored = stored.withColumn("reason", F.coalesce(late, "reason"))
    return stored.where(F.col("table").isin(EVENTS.name, f"source {dataset.events.source}"))


def _whole(
    run: Run,
    dataset: Dataset,
    head: Commit,
    reading: Mapping[str, Any],
    options: IngestOptions,
) -> str:
    """In words why the whole log must be read; nothing where it need not."""
    others = [run.lake.last_commit(table) for table in (QUARANTINE, USERS)]
    last = head.provenance.event_log
    if last is None or head.content is None or any(other is None or other.key != head.key for other in others):
        return "the last version does not say what it was made of"
    if {name: last.reading.get(name) for name in reading} != reading:
        return "it is read in another way"
    if dataset.events.names_run_date:
        return "its query names :run_date, so that rows come and go with the day"
    if not is_row_by_row(query(run.spark, "events", dataset.events, [], [], options.run_date)):
        return "an event is made of more than one row of it"
    if not knows_its_columns(dataset.sources[dataset.events.source]):
        return "its columns are known from all files alone"
    stored = len(run.lake.file_uris(EVENTS, head.version))
    many = stored - last.table_files > _MORE_FILES
    if many and run.lake.size(EVENTS, head.version) < stored * _SMALL_FILE:
        return "the table has become one of many small files"
    if dataset.events.latest == "run_date":
        if date.fromisoformat(last.run_date) > options.run_date:
            return "the run_date is an earlier one"
        late, after = last.late, options.run_date + timedelta(days=2)
        if late is not None and late < datetime(after.year, after.month, after.day, tzinfo=UTC).timestamp():
            return "the day of an event has come that was not believed before"
    return ""


def _reading(dataset: Dataset, source: str) -> dict[str, Any]:
    return {
        # A digest of the source: among its options may be passwords, and commits are read by many.
        "source": sha256(dataset.sources[source].model_dump_json().encode()).hexdigest()[:16],
        "events": dataset.events.model_dump(mode="json"),
        "users_described": dataset.users is not None,
        "software": __version__,
    }


def _sources_of_others(dataset: Dataset) -> set[str]:
    others = [ask for ask in (dataset.items, dataset.users, dataset.user_rules) if ask is not None]
    return {name for ask in others for name in named_sources(ask, dataset.sources)}


def _without_counts(batches: Iterator[pa.RecordBatch], notes: TaskStats) -> Iterator[pa.RecordBatch]:
    notes |= dict.fromkeys(("rows", "staged", "replaced_ids"), 0)
    for batch in batches:
        notes["rows"] += pc.sum(batch["rows"]).as_py() or 0
        notes["staged"] += batch.num_rows
        damaged = pc.or_(*(pc.match_substring(batch[name], "\ufffd") for name in ("user_id", "item_id")))
        notes["replaced_ids"] += pc.sum(damaged).as_py() or 0
        yield batch.drop_columns(["rows"])
