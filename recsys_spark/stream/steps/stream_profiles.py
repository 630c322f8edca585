"""Events as they arrive → live profiles and lists, batch by batch."""

import time
from collections.abc import Callable
from typing import Any

from pyspark.errors import PySparkException, StreamingQueryException
from pyspark.sql.streaming import StreamingQuery

from recsys_spark.errors import ConflictError, RecsysError, RetryError, Terminated
from recsys_spark.errors.messages import to_user_error
from recsys_spark.lake.paths import absolute, spark_path
from recsys_spark.privacy.kernels.scrub import check_scrub_installed
from recsys_spark.privacy.steps.user_key import user_key
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.sources.dataset_file import load_dataset
from recsys_spark.stream.kernels.bad_share import BadShare
from recsys_spark.stream.options import StreamOptions
from recsys_spark.stream.steps.batches import Batches
from recsys_spark.stream.steps.checkpoint import stream_name
from recsys_spark.stream.steps.event_batch import Reading
from recsys_spark.stream.steps.night import Night
from recsys_spark.stream.steps.stream_rows import stream_of, stream_rows
from recsys_spark.tables.schemas import LIVE_PROFILES, LIVE_RECOMMENDATIONS, STREAMED_EVENTS

_WAITS = (1, 2, 4, 8, 16, 32)
"""Seconds before each new attempt after a transient fault."""

_ENDED, _WRAPPED = "terminated with exception: ", "SQLSTATE: XXKST"

_GLANCE = 0.2

_RECORD_GLANCES = 50


def stream_profiles(run: Run, options: StreamOptions) -> Report:
    """Publish the profiles and lists of users with new events, batch by batch.

    A batch that was committed and is processed again, after a kill, changes nothing.

    Raises:
        UsageError: no [stream], a checkpoint of other settings, or a night that cannot be kept up.
        RetryError: a transient fault that several attempts did not outlast.
        Terminated: SIGTERM; the running batch was finished.
    """
    dataset, data = load_dataset(options.dataset), absolute(options.data)
    if dataset.scrub:
        check_scrub_installed()
    reading = Reading(dataset, BadShare(options.max_bad_share), user_key(run, options.user_key))
    stream = stream_of(dataset, options.dataset)
    checkpoint = absolute(options.checkpoint or f"{run.lake.uri}/_checkpoints/events")
    name = stream_name(run, checkpoint, dataset, stream, data)
    if options.dry_run:
        Night.open(run)
        return {"tables": {}}
    batches = Batches(run, reading, name)
    batches.open_night()
    trigger: dict[str, Any] = {"availableNow": True}
    if options.trigger != "available_now":
        trigger = {"processingTime": f"{options.trigger.removesuffix('s')} seconds"}

    def start() -> StreamingQuery:
        rows = stream_rows(run, stream, data, options)
        writer = rows.writeStream.foreachBatch(batches.process)
        return writer.option("checkpointLocation", spark_path(checkpoint)).trigger(**trigger).start()

    _until_done(run, start, batches)
    counted = (STREAMED_EVENTS, LIVE_PROFILES, LIVE_RECOMMENDATIONS)
    tables = {table.name: run.lake.rows(table) for table in counted if run.lake.version(table) is not None}
    return {"status": "done" if batches.report["batches"] else "unchanged", "tables": tables} | batches.report


def _until_done(run: Run, start: Callable[[], StreamingQuery], batches: Batches) -> None:
    """Start the query again after a transient fault, until it ends. A batch that succeeds in between resets the waits:
    a stream runs for weeks."""
    waits = iter(_WAITS)
    while True:
        done = batches.report["batches"]
        try:
            return _finish(start(), batches)
        except RetryError as error:
            if batches.report["batches"] > done:
                waits = iter(_WAITS)
            if (wait := next(waits, None)) is None:
                raise
            run.progress.note(f"{error}; next attempt in {wait} s")
            time.sleep(wait)


def _finish(query: StreamingQuery, batches: Batches) -> None:
    """Wait until the query ends. SIGTERM ends it after the running batch."""
    batches.error = None
    try:
        while query.isActive:
            time.sleep(_GLANCE)
        query.awaitTermination()
    except Terminated:
        with batches.between:
            _wait_for_checkpoint(query, batches.last)
            query.stop()
        raise
    except StreamingQueryException as error:
        raise _cause(batches.error or error) from None


def _cause(error: BaseException) -> BaseException:
    """The error as users should see it, or the error itself if it is a bug."""
    if isinstance(error, RecsysError):
        return error
    if "Multiple streaming queries are concurrently using" in str(error):
        return ConflictError(
            "another stream uses the same checkpoint: stop one of the two, or give each a --checkpoint of its own"
        )
    # Spark wraps whatever ends a query in an internal error; its cause is what can be acted on.
    inner = str(error).partition(_ENDED)[2].partition("=== Streaming Query ===")[0].replace(_WRAPPED, "")
    return to_user_error(PySparkException(inner) if inner else error) or error


def _wait_for_checkpoint(query: StreamingQuery, number: int) -> None:
    """Wait until Spark has recorded the batch ``number`` as done, so that the next start does not repeat it."""
    for _ in range(_RECORD_GLANCES):
        progress = query.lastProgress
        if not query.isActive or (progress is not None and progress.batchId >= number):
            return
        time.sleep(_GLANCE)
