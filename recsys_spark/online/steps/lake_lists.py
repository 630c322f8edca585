"""Lists of a run date, and the window in which their events count."""

from dataclasses import dataclass
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import InputError
from recsys_spark.lake.lake import Lake
from recsys_spark.online.lake_logs import moment_of
from recsys_spark.publish.steps.publishing import InputVersions
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import ANYONE, RECOMMENDATIONS, Table


@dataclass(frozen=True)
class Lists:
    """The published lists of a lake, the name of their scorer, and the content id of the table."""

    frame: DataFrame
    scorer: str
    content_id: str


def lists_of(run: Run, lake: Lake, run_date: date) -> Lists:
    """The lists of a run date, without the one for people unknown to the log, who have no events.

    Raises:
        InputError: the lake has none.
    """
    commit = lake.last_commit(RECOMMENDATIONS)
    if commit is None:
        raise InputError(f"lake {lake.uri} has no table 'recommendations': run recommend_items there first")
    stored = lake.read(run.spark, RECOMMENDATIONS, commit.version)
    lists = stored.where((F.col("run_date") == F.lit(run_date)) & (F.col("user_id") != ANYONE))
    if lists.isEmpty():
        stored_date = stored.agg(F.max("run_date")).collect()[0][0]
        raise InputError(
            f"table 'recommendations' of lake {lake.uri} holds lists for run_date {stored_date}, not for {run_date}: "
            "run recommend_items there for that date"
        )
    return Lists(lists, commit.provenance.scorer or "cosine", commit.content_id)


def newest_draw(run: Run, inputs: InputVersions, table: Table, run_date: date, command: str) -> DataFrame:
    """The rows of a run date with the greatest ``draw``; ``command``: what makes them, for the message.

    Raises:
        InputError: there are none.
    """
    rows = inputs.frame(run, table).where(F.col("run_date") == F.lit(run_date))
    draw = rows.agg(F.max("draw")).collect()[0][0]
    if draw is None:
        raise InputError(
            f"table '{table.name}' has no lists of run_date {run_date}: make them before they are shown, by {command}"
        )
    return rows.where(F.col("draw") == draw)


def unfinished_window(events: DataFrame, run_date: date, days: float) -> list[str]:
    """A warning if the newest event is a day or more before the end of the window."""
    newest, end = events.agg(F.max("timestamp"), F.max(moment_of(run_date, days))).collect()[0]
    if newest is not None and (end - newest).days < 1:
        return []
    until = "there are no events" if newest is None else f"the newest event is of {newest:%Y-%m-%d %H:%M}"
    return [f"the window is not over or its events are not ingested: {until}"]
