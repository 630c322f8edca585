"""Remove live rows that the last night includes."""

from pyspark.sql import functions as F

from recsys_spark.errors import ConflictError
from recsys_spark.lake.lake import Commit
from recsys_spark.publish.steps.publishing import Report, run_key
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.stream.live import newest_rows
from recsys_spark.tables.schemas import EVENTS, LIVE_PROFILES, LIVE_RECOMMENDATIONS, RECOMMENDATIONS, STREAMED_EVENTS


def clear_live(run: Run) -> Report:
    """Publish the live tables without rows of other nights, and of users without a later event.

    Readers do not depend on it: live rows count for the night of their run date only. If a stream commits meanwhile,
    the rows stay until its next compaction.
    """
    night, events = run.lake.last_commit(RECOMMENDATIONS), run.lake.last_commit(EVENTS)
    cleared: Report = {}
    for table in (LIVE_PROFILES, LIVE_RECOMMENDATIONS):
        last = run.lake.last_commit(table)
        if last is None or night is None or events is None or not run.lake.rows(table):
            continue
        included = -1 if events.provenance.streamed is None else events.provenance.streamed
        if last.key == (key := _key(run, night, included)):  # cleared, and nobody has added or forgotten rows since
            continue
        later = run.lake.read_or_empty(run.spark, STREAMED_EVENTS).where(F.col("sequence") > included)
        rows = newest_rows(run.lake.read(run.spark, table, last.version), night.provenance.run_date)
        rows = rows.join(later.select("user_id").distinct(), on="user_id", how="left_semi").select(*table.columns)
        before, staged = run.lake.rows(table), run.lake.stage(rows, table, base=last.version)
        try:
            run.lake.commit(staged, key, outcome=last.outcome)
        except ConflictError:
            run.lake.discard(staged)
            continue
        cleared[table.name] = before - staged.rows
    return {"tables": {}} | ({"live_rows_cleared": cleared} if any(cleared.values()) else {})


def _key(run: Run, night: Commit, included: int) -> str:
    """Name a clearing by all that decides which rows stay."""
    streamed = run.lake.last_commit(STREAMED_EVENTS)
    stream = None if streamed is None else streamed.content_id
    return run_key("clear_live", {"run_date": night.provenance.run_date, "included": included, "stream": stream})
