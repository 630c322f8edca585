"""The batches of a stream, one after the other: the last night, the recent events, and what was published."""

import threading
import time
from contextlib import suppress

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import ConflictError
from recsys_spark.lake.paths import delta_uri
from recsys_spark.lake.provenance import Outcome
from recsys_spark.publish.steps.scratch import materialized
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.stream.live import newest_rows
from recsys_spark.stream.steps.event_batch import BatchId, Reading, staged_batch
from recsys_spark.stream.steps.live_lists import StagedLists, staged_lists
from recsys_spark.stream.steps.night import Night
from recsys_spark.stream.steps.recent_events import RecentEvents
from recsys_spark.stream.steps.sorted_rows import Users
from recsys_spark.tables.schemas import LIVE_PROFILES, LIVE_RECOMMENDATIONS, STREAMED_EVENTS

_LIVE = (LIVE_PROFILES, LIVE_RECOMMENDATIONS)

_MOST_FILES = 64
"""Data files of a live table after which its rows are written again without those that a later batch replaced."""

_KEEP_SECONDS = 3600.0


class Batches:
    """Processes batches in the driver. ``error``: why the last one failed; Spark passes on its text only."""

    def __init__(self, run: Run, reading: Reading, stream: str) -> None:
        self._run, self._reading, self._stream = run, reading, stream
        self.between = threading.Lock()
        """Held while a batch is processed."""
        self.error: BaseException | None = None
        self.last = -1
        """The number of the last batch that was processed."""
        self.report = dict.fromkeys(("batches", "events", "bad_rows", "lists_made", "nights"), 0)

    def open_night(self) -> None:
        """Open the last night; remake the lists of users with events that it does not include."""
        run = self._run
        self._night = Night.open(run)
        self._night.prepare()
        self._recent = RecentEvents(run, self._night.sequence)
        self._keep_at = time.monotonic() + _KEEP_SECONDS
        self.report["nights"] += 1
        last = run.lake.last_commit(LIVE_RECOMMENDATIONS)
        if run.lake.version(STREAMED_EVENTS) is None or (last and last.outcome.more.get("night") == self._night.name):
            return
        recent = run.lake.read(run.spark, STREAMED_EVENTS).where(F.col("sequence") > self._night.sequence)
        with materialized(run, recent.select("user_id").distinct(), broadcast=False) as found:
            if found.rows:
                run.progress.note(f"new night: lists of {found.rows:,} users with events since are made again")
                sequence = self._sequence(run.lake.version(STREAMED_EVENTS) or 0)
                made = self._lists(Users(found.frame, found.uris), sequence)
                for staged in (made.profiles, made.lists):
                    run.lake.commit(staged, f"{self._stream}:night", append=True, outcome=self._outcome(sequence))

    def process(self, raw: DataFrame, number: int) -> None:
        """Process the batch ``number``, from 0, of the stream: for ``foreachBatch``."""
        with self.between:
            started = time.monotonic()
            try:
                users, events = self._process(raw, BatchId(self._stream, number + 1))
            except BaseException as error:
                self.error = error
                raise
            self.last = number
            self._run.progress.note(
                f"batch {number}: {events:,} events, lists of {users:,} users, {time.monotonic() - started:.1f} s"
            )

    def _process(self, raw: DataFrame, batch: BatchId) -> tuple[int, int]:
        run = self._run
        if not self._night.is_last:
            self.open_night()
        elif time.monotonic() > self._keep_at:
            self._keep_copies()
        staged = staged_batch(run, self._night, self._reading, raw, batch)
        users, made, sequence = staged.users(run), None, self._sequence(staged.sequence)
        if staged.events.rows:  # before the commit, which removes the files after an attempt that committed them
            made = self._lists(users, sequence, users.uris)
        staged.commit(run, batch)
        for rows in () if made is None else (made.profiles, made.lists):
            batch.append(run, rows, outcome=self._outcome(sequence))
        self._count(staged.events.rows, staged.bad.rows)
        self._compact()
        return 0 if made is None else made.users, staged.events.rows

    def _lists(self, users: Users, sequence: int, new: tuple[str, ...] = ()) -> StagedLists:
        made = staged_lists(self._run, self._night, self._recent, users, sequence, new)
        self.report["lists_made"] += made.users
        return made

    def _sequence(self, events: int) -> int:
        """That of lists made from events up to the sequence ``events``; greater than that of all earlier lists."""
        last = self._run.lake.last_commit(LIVE_RECOMMENDATIONS)
        return events if last is None else max(events, int(last.outcome.more.get("sequence", -1)) + 1)

    def _outcome(self, sequence: int) -> Outcome:
        return Outcome(more={"night": self._night.name, "sequence": sequence})

    def _count(self, events: int, bad: int) -> None:
        self._reading.bad_share.add(events + bad, bad)
        self.report["batches"] += 1
        self.report["events"] += events
        self.report["bad_rows"] += bad

    def _keep_copies(self) -> None:
        """Mark the copies as used: other jobs remove those that nobody has used for two days."""
        self._night.prepare()
        self._recent.mark_used()
        self._keep_at = time.monotonic() + _KEEP_SECONDS

    def _compact(self) -> None:
        """Merge the small files that batches leave behind. If a refresh commits meanwhile, a later batch does it."""
        lake, spark = self._run.lake, self._run.spark
        for table in _LIVE:
            last = lake.last_commit(table)
            if last is not None and len(lake.file_uris(table, lake.version(table) or 0)) > _MOST_FILES:
                rows = newest_rows(lake.read(spark, table), self._night.run_date).select(*table.columns)
                staged = lake.stage(rows, table)
                try:
                    lake.commit(staged, f"{self._stream}:compact", outcome=last.outcome)
                except ConflictError:
                    lake.discard(staged)
        version = lake.version(STREAMED_EVENTS)
        if version is not None and version % _MOST_FILES == 0:
            with suppress(DeltaError):
                DeltaTable(delta_uri(lake.table_uri(STREAMED_EVENTS))).optimize.compact()
