"""The event log → events. Of a log that only grows, a run reads the rows added since the last run."""

from collections.abc import Iterator, Mapping
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
from recsys_spark.ingest.streamed import beside
from recsys_spark.ingest.validation import (
    LATE,
    repeated_events,
    superseded_events,
    unique_events,
    users_of,
    without_stored,
)
from recsys_spark.lake.commits import Commit, Staged, as_append
from recsys_spark.lake.provenance import EventLogRecord
from recsys_spark.privacy.kernels.scrub import SCRUB_VERSION
from recsys_spark.privacy.rules import without_forgotten
from recsys_spark.privacy.steps.tombstones import tombstones
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.sources.dataset_file import Dataset
from recsys_spark.sources.listing import Listing, Part
from recsys_spark.sources.names import named_sources
from recsys_spark.sources.queries import is_row_by_row, query
from recsys_spark.sources.reader import has_stated_columns
from recsys_spark.tables.schemas import EVENTS, QUARANTINE, STREAMED_EVENTS, USERS
from recsys_spark.tables.task_stream import TaskStats

_MORE_FILES = 500
"""Data files added to ``events`` since the last full read after which the log is read in full again. A full read writes
few files."""

_SMALL_FILE = 32 * 2**20
"""Mean file size in bytes below which a full read is worth its cost."""

_RECORDED = 10_000
"""Maximum number of source files that a commit records; a longer log is read in full every time."""


@dataclass(frozen=True)
class EventLog:
    """The part of the source of events that a run reads."""

    part: Part | None = None
    """The rows added since the last run; None: all rows."""
    last: Commit | None = None
    """The commit of ``events`` to which the rows of ``part`` are added."""
    reason: str = ""
    """The reason why all rows are read."""
    record: EventLogRecord | None = None
    """For the commit: the record that the next run compares with."""
    streamed: int | None = None
    """The version of ``streamed_events`` whose rows are added; None: there is no such table."""

    @property
    def scope(self) -> str:
        """The part that is read, in words."""
        return f"all: {self.reason}" if self.part is None else self.part.words

    def whole(self, reason: str) -> "EventLog":
        """The whole log, for this ``reason`` unless it has one already."""
        return self if self.part is None else EventLog(reason=reason, record=self.record, streamed=self.streamed)

    def record_of(self, staged: Staged) -> EventLogRecord | None:
        """For the commit of the staged events: the record with the number of data files after the last full read."""
        if self.record is None:
            return None
        last = None if self.last is None else self.last.provenance.event_log
        return replace(self.record, table_files=len(staged.actions) if last is None else last.table_files)

    def with_late(self, validated: DataFrame) -> "EventLog":
        """The log with the time of the earliest event in the future, on whose day all files are read again."""
        if self.record is None:
            return self
        is_late = F.col("reason").startswith(LATE)
        earliest = validated.where(is_late).agg(F.min(F.unix_seconds("timestamp"))).collect()[0][0]
        last = None if self.last is None else self.last.provenance.event_log
        times = [time for time in (earliest, None if last is None else last.late) if time is not None]
        return replace(self, record=replace(self.record, late=min(times, default=None)))


def log_size(
    log: EventLog, listing: Listing | None, reviewed: Mapping[str, Any], last: Commit | None
) -> dict[str, int]:
    """For the report: rows that were validated, bytes of the files that were read, and of all files of the log.

    Args:
        log: the part that was read.
        listing: of the source of the events; None if they have none of their own.
        reviewed: rows of this run, from ``Gate.reviewed``.
        last: the last commit of ``events``.
    """
    before = 0 if log.part is None or last is None else (last.provenance.reviewed or {}).get("rows", 0)
    sizes = {"log_rows": reviewed["rows"] - before}
    if listing is not None and listing.bytes is not None:
        read = listing.bytes if log.part is None else log.part.bytes
        sizes |= {"log_bytes": listing.bytes if read is None else read, "log_bytes_of": listing.bytes}
    return sizes


@dataclass(frozen=True)
class StagedEvents:
    """The staged events, and the rejected rows with their reason."""

    staged: Staged
    bad: DataFrame


def event_log(
    run: Run,
    dataset: Dataset,
    listings: Mapping[str, Listing],
    options: IngestOptions,
    *,
    force: bool,
    forgotten: str | None = None,
    streamed: int | None = None,
) -> EventLog:
    """The whole log, or only the rows added since the last run if they are enough for the same table.

    Args:
        run: the sources are registered as views in its session.
        dataset: names the source of events.
        listings: of every source, from ``list_sources``.
        options: those of this run.
        force: read the whole log in any case.
        forgotten: content id of the tombstones; events stored under others may hold forgotten users.
        streamed: version of ``streamed_events``; None without a stream.
    """
    log = _source_log(run, dataset, listings, options, force=force, forgotten=forgotten)
    return replace(log, streamed=streamed)


def _source_log(
    run: Run,
    dataset: Dataset,
    listings: Mapping[str, Listing],
    options: IngestOptions,
    *,
    force: bool,
    forgotten: str | None,
) -> EventLog:
    name = dataset.events.source
    if name not in dataset.sources or name in _sources_of_others(dataset):
        return EventLog(reason="the events have no source of their own")
    entries, reading = listings[name].entries, _reading(dataset, name)
    record = EventLogRecord(entries, str(options.run_date), reading)
    if len(entries) > _RECORDED:
        return EventLog(reason=f"the log has more than {_RECORDED:,} files")
    if (last := run.lake.last_commit(EVENTS)) is None:
        return EventLog(reason="it is the first run", record=record)
    if force:
        return EventLog(reason="--full asks for it", record=record)
    if last.provenance.forgotten != forgotten:
        return EventLog(reason="users or items were forgotten since", record=record)
    if reason := _reason_for_full_read(run, dataset, last, reading, options):
        return EventLog(reason=reason, record=record)
    added = listings[name].added(last.provenance.event_log.files if last.provenance.event_log else ())
    if isinstance(added, str):
        return EventLog(reason=added, record=record)
    return EventLog(added, last, record=record)


def staged_events(run: Run, log: EventLog, validated: DataFrame) -> StagedEvents | None:
    """The events of ``log`` and of the stream, staged; None if new rows are not enough because a stored row would have
    to be replaced.

    Which of two equal rows goes to quarantine is not defined if they arrive in different runs.
    """
    good, bad = (validated.where(part) for part in (F.col("reason").isNull(), F.col("reason").isNotNull()))
    stored = None if log.last is None else run.lake.read(run.spark, EVENTS, log.last.version)
    rows = _with_streamed(run, log, good, stored)
    staged = run.lake.stage(unique_events(rows, stored), EVENTS, _count_rows, digest=True)
    read = sum(note["rows"] for note in staged.stats) if stored is None else rows.count()
    if read > staged.rows:
        if stored is not None and not superseded_events(rows, stored).isEmpty():
            run.lake.discard(staged)
            return None
        bad = bad.unionByName(repeated_events(good, stored).select(*bad.columns))
    return StagedEvents(staged if log.last is None else as_append(staged, log.last), bad)


def _with_streamed(run: Run, log: EventLog, good: DataFrame, stored: DataFrame | None) -> DataFrame:
    """``good``, and the streamed events that it lacks: all of them, or those since the last run."""
    if log.streamed is None:
        return good
    streamed = run.lake.read(run.spark, STREAMED_EVENTS, log.streamed)
    if log.last is not None and log.last.provenance.streamed is not None:
        streamed = streamed.where(F.col("sequence") > log.last.provenance.streamed)
    streamed = beside(without_forgotten(streamed.select(*EVENTS.columns), tombstones(run)), good)
    rows = good.select(*EVENTS.columns)
    return rows.unionByName(streamed if stored is None else beside(streamed, stored))


def staged_users(run: Run, log: EventLog, events: Staged) -> Staged:
    """Every user with an event, staged: the users of a dataset that does not describe them."""
    users = users_of(run.lake.read_staged(run.spark, events))
    if log.last is None:
        return run.lake.stage(users, USERS)
    last = run.lake.last_commit(USERS)
    assert last is not None, "event_log compared its run key"
    new = without_stored(users, run.lake.read(run.spark, USERS, last.version), ["user_id"])
    return as_append(run.lake.stage(new, USERS), last)


def stored_quarantine(run: Run, dataset: Dataset, options: IngestOptions) -> DataFrame:
    """The quarantine rows of a log of which only new files are read. Events in the future get the reason that a full
    read of this run would give them."""
    stored = run.lake.read(run.spark, QUARANTINE)
    if dataset.events.latest == "run_date":
        late = F.when(F.col("reason").startswith(LATE), f"{LATE} {options.run_date + timedelta(days=1)}")
        stored = stored.withColumn("reason", F.coalesce(late, "reason"))
    return stored.where(F.col("table").isin(EVENTS.name, f"source {dataset.events.source}"))


def _reason_for_full_read(
    run: Run, dataset: Dataset, last: Commit, reading: Mapping[str, Any], options: IngestOptions
) -> str:
    """The reason why the whole log must be read; empty if new files are enough."""
    others = [run.lake.last_commit(table) for table in (QUARANTINE, USERS)]
    record = last.provenance.event_log
    if record is None or last.content is None or any(other is None or other.key != last.key for other in others):
        return "the last version does not say what it was made from"
    if {name: record.reading.get(name) for name in reading} != reading:
        return "the source, the query or the software changed"
    if dataset.events.names_run_date:
        return "the query names :run_date, so its rows depend on the day"
    if not is_row_by_row(query(run.spark, "events", dataset.events, [], [], options.run_date)):
        return "the query makes an event from more than one row"
    if not has_stated_columns(dataset.sources[dataset.events.source]):
        return "the columns follow only from the rows of all files"
    stored = len(run.lake.file_uris(EVENTS, last.version))
    has_many = stored - record.table_files > _MORE_FILES
    if has_many and run.lake.size(EVENTS, last.version) < stored * _SMALL_FILE:
        return "the table has too many small files"
    if dataset.events.latest == "run_date":
        if date.fromisoformat(record.run_date) > options.run_date:
            return "run_date is earlier than that of the last run"
        late, after = record.late, options.run_date + timedelta(days=2)
        if late is not None and late < datetime(after.year, after.month, after.day, tzinfo=UTC).timestamp():
            return "an event that was in the future has become valid"
    return ""


def _reading(dataset: Dataset, source: str) -> dict[str, Any]:
    return {
        # A digest of the source: its options may hold passwords, and many people can read commits.
        "source": sha256(dataset.sources[source].model_dump_json().encode()).hexdigest()[:16],
        "events": dataset.events.model_dump(mode="json"),
        "users_described": dataset.users is not None,
        "software": __version__,
        **({"scrub": SCRUB_VERSION} if dataset.scrub else {}),
    }


def _sources_of_others(dataset: Dataset) -> set[str]:
    """The sources of all tables except events."""
    others = [table for table in (dataset.items, dataset.users, dataset.user_rules) if table is not None]
    return {name for table in others for name in named_sources(table, dataset.sources)}


def _count_rows(batches: Iterator[pa.RecordBatch], notes: TaskStats) -> Iterator[pa.RecordBatch]:
    """The batches without the column ``rows``. Notes: ``rows`` read, rows ``staged``, and those of ``replaced_ids``,
    which hold U+FFFD."""
    notes |= dict.fromkeys(("rows", "staged", "replaced_ids"), 0)
    for batch in batches:
        notes["rows"] += pc.sum(batch["rows"]).as_py() or 0
        notes["staged"] += batch.num_rows
        damaged = pc.or_(*(pc.match_substring(batch[name], "\ufffd") for name in ("user_id", "item_id")))
        notes["replaced_ids"] += pc.sum(damaged).as_py() or 0
        yield batch.drop_columns(["rows"])
