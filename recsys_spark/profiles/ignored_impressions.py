"""What was listed to a user who came and passed it over: weak events against. Pure DataFrame functions.

They are no rows of ``events``: an item that was passed over counts a little against its like, and can be listed again.
"""

from dataclasses import dataclass
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.events.weights import GRID, EventWeights
from recsys_spark.tables.run_date import events_before

IGNORED = "ignored"
"""The event type, where one is asked for."""


@dataclass(frozen=True)
class Ignored:
    """What counts as passed over: a list of the last ``lists`` that are ``days`` old, of a user who had an event in
    those days; ``weight`` each, decayed like an event of the list's day."""

    weight: float
    days: int
    lists: int


def shown_pairs(lists: DataFrame) -> DataFrame:
    """``user_id, item_id, shown_at`` of published lists."""
    return lists.select("user_id", "item_id", F.col("run_date").alias("shown_at"))


def ignored_pairs(
    impressions: DataFrame, events: DataFrame, run_date: date, what: Ignored, users: DataFrame | None = None
) -> DataFrame:
    """``user_id, item_id, shown_at``: each item that was passed over, with the last day on which it was; of all users,
    or of those in ``users``. Which lists are the last ones is told by those of all.

    An item that the user has touched before ``run_date``, be it late, is none; nor is what was listed to a user who did
    not come: who saw nothing has passed over nothing.
    """
    over = impressions.where(F.date_add("shown_at", what.days) <= F.lit(run_date))
    last = over.select("shown_at").distinct().orderBy(F.desc("shown_at")).limit(what.lists)
    shown = over.join(F.broadcast(last), on="shown_at", how="left_semi")
    known = events_before(events, run_date)
    if users is not None:
        shown, known = (rows.join(users, on="user_id", how="left_semi") for rows in (shown, known))
    fresh = shown.join(known.select("user_id", "item_id").distinct(), on=["user_id", "item_id"], how="left_anti")
    days = known.select("user_id", F.to_date("timestamp").alias("day")).distinct()
    since = F.date_diff("day", "shown_at")
    came = fresh.alias("shown").join(
        days.alias("came"),
        on=(F.col("shown.user_id") == F.col("came.user_id")) & since.between(0, what.days - 1),
        how="left_semi",
    )
    return came.groupBy("user_id", "item_id").agg(F.max("shown_at").alias("shown_at"))


def weighed_ignored(
    ignored: DataFrame, events: DataFrame, run_date: date, weight: float, half_life: float
) -> DataFrame:
    """``user_id, item_id, weight, events, last_timestamp`` to be put under those of ``weigh_pairs``: no pair is in
    both, and none of these is newer than the user's newest event."""
    newest = events_before(events, run_date).groupBy("user_id").agg(F.max("timestamp").alias("newest"))
    like_events = ignored.join(newest, on="user_id", how="inner").withColumns(
        {
            "event_type": F.lit(IGNORED),
            "value": F.lit(None).cast("double"),
            "timestamp": F.col("shown_at").cast("timestamp"),
            "decay": F.lit(1.0),
        }
    )
    units = EventWeights({IGNORED: weight}, 0.0, half_life).column()
    none = F.lit(0).cast("bigint").alias("events")
    return like_events.select(
        "user_id", "item_id", (units / GRID).alias("weight"), none, F.col("timestamp").alias("last_timestamp")
    )


def ignored_kinds(ignored: DataFrame) -> DataFrame:
    """``user_id, item_id, event_type``, for reasons."""
    return ignored.select("user_id", "item_id", F.lit(IGNORED).alias("event_type"))
