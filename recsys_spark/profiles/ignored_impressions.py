"""Implicit negative feedback from ignored impressions. Pure DataFrame functions.

An ignored impression is a listed item with which an active user did not interact. It counts a little against similar
items. It is not a row of ``events``, so that the item itself can be listed again.
"""

from dataclasses import dataclass
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.events.weights import GRID, EventWeights
from recsys_spark.tables.run_date import events_before

IGNORED = "ignored"
"""The event type of ignored impressions, in sentences of reasons."""


@dataclass(frozen=True)
class Ignored:
    """Settings of ignored impressions.

    Args:
        weight: of each, decayed like that of an event on the day of the list.
        days: the attribution window. A list counts once it is over, for users with an event in the window.
        lists: number of the newest lists before the window that count.
    """

    weight: float
    days: int
    lists: int


def shown_pairs(lists: DataFrame) -> DataFrame:
    """``user_id, item_id, shown_at`` of published lists."""
    return lists.select("user_id", "item_id", F.col("run_date").alias("shown_at"))


def ignored_pairs(
    impressions: DataFrame, events: DataFrame, run_date: date, settings: Ignored, users: DataFrame | None = None
) -> DataFrame:
    """``user_id, item_id, shown_at``: ignored impressions, with the last day of each item.

    Excluded are items with any event of the user before ``run_date``, late ones too, and users without an event in the
    attribution window, who may not have seen the list.

    Args:
        users: only these users; the newest lists are still those of all users.
    """
    complete = impressions.where(F.date_add("shown_at", settings.days) <= F.lit(run_date))
    newest = complete.select("shown_at").distinct().orderBy(F.desc("shown_at")).limit(settings.lists)
    shown = complete.join(F.broadcast(newest), on="shown_at", how="left_semi")
    earlier = events_before(events, run_date)
    if users is not None:
        shown, earlier = (rows.join(users, on="user_id", how="left_semi") for rows in (shown, earlier))
    interactions = earlier.select("user_id", "item_id").distinct()
    untouched = shown.join(interactions, on=["user_id", "item_id"], how="left_anti")
    active_days = earlier.select("user_id", F.to_date("timestamp").alias("day")).distinct()
    since = F.date_diff("day", "shown_at")
    ignored = untouched.alias("shown").join(
        active_days.alias("active"),
        on=(F.col("shown.user_id") == F.col("active.user_id")) & since.between(0, settings.days - 1),
        how="left_semi",
    )
    return ignored.groupBy("user_id", "item_id").agg(F.max("shown_at").alias("shown_at"))


def weighed_ignored(
    ignored: DataFrame, events: DataFrame, run_date: date, weight: float, half_life: float
) -> DataFrame:
    """``user_id, item_id, weight, events, last_timestamp``, for a union with ``weigh_pairs``.

    No pair is in both, and none of these is newer than the user's newest event.
    """
    newest = events_before(events, run_date).groupBy("user_id").agg(F.max("timestamp").alias("newest"))
    as_events = ignored.join(newest, on="user_id", how="inner").withColumns(
        {
            "event_type": F.lit(IGNORED),
            "value": F.lit(None).cast("double"),
            "timestamp": F.col("shown_at").cast("timestamp"),
            "decay": F.lit(1.0),
        }
    )
    units = EventWeights({IGNORED: weight}, 0.0, half_life).column()
    no_events = F.lit(0).cast("bigint").alias("events")
    return as_events.select(
        "user_id", "item_id", (units / GRID).alias("weight"), no_events, F.col("timestamp").alias("last_timestamp")
    )


def ignored_event_types(ignored: DataFrame) -> DataFrame:
    """``user_id, item_id, event_type`` of ignored impressions, for reasons."""
    return ignored.select("user_id", "item_id", F.lit(IGNORED).alias("event_type"))
