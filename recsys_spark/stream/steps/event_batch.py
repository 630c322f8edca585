"""Raw rows of a batch → streamed_events, and those that are refused → streamed_quarantine."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import QualityError
from recsys_spark.ingest.bad_rows import BadRows, by_reason, most_frequent
from recsys_spark.ingest.validation import rejected, unique_events, validate_events
from recsys_spark.lake.lake import Staged
from recsys_spark.lake.provenance import Outcome
from recsys_spark.privacy.pseudonyms import with_pseudonyms
from recsys_spark.privacy.raw_texts import scrubbed_rows, withheld_rows
from recsys_spark.privacy.rules import without_forgotten, without_forgotten_raw
from recsys_spark.privacy.steps.user_key import UserKey
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.sources.dataset_file import Dataset
from recsys_spark.sources.queries import query, register
from recsys_spark.sources.reader import malformed
from recsys_spark.stream.kernels.bad_share import BadShare
from recsys_spark.stream.steps.night import Night
from recsys_spark.stream.steps.sorted_rows import Users
from recsys_spark.tables.schemas import EVENTS, STREAMED_EVENTS, STREAMED_QUARANTINE


@dataclass(frozen=True)
class Reading:
    """How the rows of a stream are read: by ``[events]`` of ``dataset``, with pseudonyms by ``secret`` if there is one.
    ``bad_share``: limits the share of bad rows."""

    dataset: Dataset
    bad_share: BadShare
    secret: UserKey | None = None


@dataclass(frozen=True)
class BatchId:
    """The name of a stream in commits and the number of a batch, from 1: a table gets the rows of both once."""

    stream: str
    number: int

    def append(self, run: Run, staged: Staged, *, exclusive: bool = False, outcome: Outcome | None = None) -> None:
        """Append staged rows, unless an earlier attempt of the batch has appended them."""
        run.lake.commit(staged, self.stream, append=True, exclusive=exclusive, outcome=outcome, batch=self.number)


@dataclass(frozen=True)
class EventBatch:
    """The staged rows of a batch. ``sequence``: that of its events."""

    events: Staged
    bad: Staged
    sequence: int

    def users(self, run: Run) -> Users:
        """The users of the events."""
        uris = tuple(f"{run.lake.table_uri(STREAMED_EVENTS)}/{action.path}" for action in self.events.actions)
        return Users(run.lake.read_staged(run.spark, self.events).select("user_id").distinct(), uris)

    def commit(self, run: Run, batch: BatchId) -> None:
        """Append the rows to their tables.

        Raises:
            ConflictError: another stream has appended events since these were staged.
        """
        for staged, exclusive in ((self.bad, False), (self.events, True)):
            if staged.rows:
                batch.append(run, staged, exclusive=exclusive)


def staged_batch(run: Run, night: Night, reading: Reading, raw: DataFrame, batch: BatchId) -> EventBatch:
    """Validate the rows of a batch as ingest does and stage them.

    Args:
        run: the run.
        night: the last night.
        reading: how the rows are read.
        raw: the rows, in the session of the stream.
        batch: the batch.

    Raises:
        QualityError: too many rows are bad; nothing is left staged.
    """
    validated, malformed_rows = _validated(run, night, reading, raw)
    bad = rejected(validated, EVENTS)
    bad = bad if malformed_rows is None else bad.unionByName(malformed_rows)
    bad = scrubbed_rows(bad) if reading.dataset.scrub else bad
    sequence = _sequence(run, batch)
    events = unique_events(validated.where(F.col("reason").isNull()))
    events = events.withColumn("sequence", F.lit(sequence).cast("bigint")).select(*STREAMED_EVENTS.columns)
    # One file, sorted by user as look-ups expect: a batch is small, and its files are many.
    by_user = events.repartition(1).sortWithinPartitions("user_id")
    with ThreadPoolExecutor() as jobs:  # most of the time of such small jobs is waiting
        good, refused = jobs.map(run.lake.stage, (by_user, bad.coalesce(1)), (STREAMED_EVENTS, STREAMED_QUARANTINE))
    staged = EventBatch(good, refused, sequence)
    _check(run, staged, reading.bad_share)
    return staged


def _sequence(run: Run, batch: BatchId) -> int:
    """The version that the events of the batch will have or, after an attempt that committed them, one that no other
    batch has."""
    version = run.lake.version(STREAMED_EVENTS)
    if version is None:
        return 0
    return version if run.lake.last_batch(STREAMED_EVENTS, batch.stream) >= batch.number else version + 1


def _validated(run: Run, night: Night, reading: Reading, raw: DataFrame) -> tuple[DataFrame, DataFrame | None]:
    """Validated events, and the malformed records; both without forgotten users and items."""
    dataset, secret = reading.dataset, reading.secret
    name, columns = dataset.events.source, ["user_id", "item_id", "event_type", "timestamp"]
    register(raw, name)
    rows = query(raw.sparkSession, EVENTS.name, dataset.events, columns, ["value"], night.run_date)
    latest = night.until - timedelta(days=1) if dataset.events.latest == "run_date" else dataset.events.latest
    rows = with_pseudonyms(rows, None if secret is None else secret.pads(run))
    validated = without_forgotten(validate_events(rows, dataset.events.earliest, latest), night.tombstones)
    bad = malformed(raw, name)
    if bad is None:
        return validated, None
    bad = without_forgotten_raw(bad, night.tombstones)
    return validated, bad if secret is None else withheld_rows(bad)


def _check(run: Run, batch: EventBatch, bad_share: BadShare) -> None:
    excess = bad_share.excess(batch.events.rows + batch.bad.rows, batch.bad.rows)
    if excess is None:
        return
    bad, rows = excess
    counts = [BadRows(**row.asDict()) for row in by_reason(run.lake.read_staged(run.spark, batch.bad)).collect()]
    for staged in (batch.events, batch.bad):
        run.lake.discard(staged)
    raise QualityError(
        f"{bad:,} of the last {rows:,} rows are bad: {most_frequent(counts)}. Nothing of the last batch was "
        "committed. Check [stream] and [events] of the dataset file, or raise --max_bad_share"
    )
