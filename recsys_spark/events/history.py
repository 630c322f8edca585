"""Which events of a user count, and how much by their place in the history. Pure DataFrame functions.

Windows stand over slim rows, one user's in one task, where they are sorted and spilled; a history without options has
none.
"""

import math
from dataclasses import dataclass

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

_NOTHING = 57
"""Half-lives after which the largest weight of an event, 2¹⁶, is less than half of the grid of 2⁻⁴⁰."""


@dataclass(frozen=True)
class History:
    """How a user's events bear on each other. None leaves a rule out."""

    half_life_steps: float | None = None
    max_events: int | None = None
    session_gap_minutes: float | None = None
    sif: float | None = None


def counted_events(events: DataFrame, history: History) -> DataFrame:
    """The events that count, with ``decay``: 2^(−newer events of the user / half_life_steps), else 1.

    Sessions are looked at first, then the last ``max_events`` are taken, then steps are counted among those.
    """
    if history.session_gap_minutes is not None:
        events = _once_per_session(events, history.session_gap_minutes)
    if history.max_events is not None:
        newest = Window.partitionBy("user_id").orderBy(F.desc("timestamp"), "item_id", "event_type")
        placed = events.withColumn("place", F.row_number().over(newest))
        events = placed.where(F.col("place") <= history.max_events).drop("place")
    if history.half_life_steps is None:
        return events.withColumn("decay", F.lit(1.0))
    # Spark cuts such a filter off before the shuffle, up to 1000 places: a million events are no sort then.
    newer = F.rank().over(Window.partitionBy("user_id").orderBy(F.desc("timestamp")))
    near = events.withColumn("place", newer).where(F.col("place") <= math.ceil(_NOTHING * history.half_life_steps))
    decay = F.pow(F.lit(2.0), (1 - F.col("place")) / history.half_life_steps)
    return near.withColumn("decay", decay).drop("place")


def damp_popular(pairs: DataFrame, a: float) -> DataFrame:
    """``pairs`` with weights times a / (a + p), p the item's share of their events (smooth inverse frequency)."""
    total = pairs.agg(F.sum("events").alias("all_events"))
    shares = (
        pairs.groupBy("item_id")
        .agg(F.sum("events").alias("item_events"))
        .crossJoin(F.broadcast(total))
        .select("item_id", (F.col("item_events") / F.col("all_events")).alias("share"))
    )
    weight = F.col("weight") * a / (a + F.col("share"))
    damped = pairs.join(shares, on="item_id", how="inner")
    return damped.select("user_id", "item_id", weight.alias("weight"), "events", "last_timestamp")


def _once_per_session(events: DataFrame, gap_minutes: float) -> DataFrame:
    """Of the same event with the same item within a session, the newest. A pause longer than the gap ends a session."""
    in_time = Window.partitionBy("user_id").orderBy("timestamp")
    pause = F.unix_micros("timestamp") - F.lag(F.unix_micros("timestamp")).over(in_time)
    starts = events.withColumn("starts", F.when(pause > gap_minutes * 60e6, 1).otherwise(0))
    so_far = in_time.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    numbered = starts.withColumn("session", F.sum("starts").over(so_far))
    once = numbered.groupBy("user_id", "item_id", "event_type", "session").agg(
        F.max("timestamp").alias("newest"), F.max_by("value", "timestamp").alias("value")
    )
    return once.select("user_id", "item_id", "event_type", F.col("newest").alias("timestamp"), "value")
