"""Rules of a history: select a user's events and decay them by their position. Pure DataFrame functions.

Windows are over slim rows. A task sorts all rows of a user and spills them where they exceed its memory. A history
without rules has no window.
"""

import math
from dataclasses import asdict, dataclass

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

_LAST_HALF_LIFE = 57
"""Half-lives after which the largest weight of an event, 2¹⁶, is less than half a step of the grid of 2⁻⁴⁰."""


@dataclass(frozen=True)
class History:
    """The rules of a history, see ``HistoryOptions``. None leaves a rule out."""

    half_life_steps: float | None = None
    max_events: int | None = None
    session_gap_minutes: float | None = None
    sif: float | None = None
    session_limit: float | None = None

    def settings(self) -> dict[str, float | None]:
        """What a commit says of the rules. A rule of a later release stands there only where it is used, so that the
        commits of an earlier one are recognised."""
        rules = asdict(self)
        return {name: value for name, value in rules.items() if name != "session_limit" or value is not None}


def counted_events(events: DataFrame, history: History) -> DataFrame:
    """The events that count, with ``decay``: 2^(−newer events of the user / half_life_steps), 1 without half-life,
    times the share of ``limited_sessions``.

    Repeats within sessions are merged first and sessions limited, then the ``max_events`` newest events are taken, and
    steps are counted among these.
    """
    share = F.lit(1.0)
    if history.session_gap_minutes is not None:
        events = _once_per_session(events, history.session_gap_minutes)
        if history.session_limit is not None:
            events, share = limited_sessions(events, history.session_limit), F.col("share")
        events = events.drop("session")
    if history.max_events is not None:
        newest = Window.partitionBy("user_id").orderBy(F.desc("timestamp"), "item_id", "event_type")
        numbered = events.withColumn("position", F.row_number().over(newest))
        events = numbered.where(F.col("position") <= history.max_events).drop("position")
    if history.half_life_steps is None:
        return events.withColumn("decay", share).drop("share")
    # Spark applies such a filter before the shuffle, up to rank 1000, so that a million events are not sorted.
    rank = F.rank().over(Window.partitionBy("user_id").orderBy(F.desc("timestamp")))
    last = math.ceil(_LAST_HALF_LIFE * history.half_life_steps)
    recent = events.withColumn("position", rank).where(F.col("position") <= last)
    decay = F.pow(F.lit(2.0), (1 - F.col("position")) / history.half_life_steps)
    return recent.withColumn("decay", decay * share).drop("position", "share")


def limited_sessions(events: DataFrame, limit: float) -> DataFrame:
    """Add ``share``: what an event counts so that its session counts at most ``limit`` times the user's median session.

    Winsorized sessions (Tukey, Annals of Mathematical Statistics 1962): a burst, by another person with the account or
    by a program, moves a profile by a bounded amount, and nothing is dropped. A user with one session is not limited.

    Args:
        events: with ``session``.
        limit: in median numbers of events.
    """
    sizes = events.groupBy("user_id", "session").agg(F.count("*").alias("size"))
    medians = sizes.groupBy("user_id").agg(F.percentile("size", F.lit(0.5)).alias("median"))
    shares = sizes.join(medians, on="user_id", how="inner").select(
        "user_id", "session", F.least(F.lit(1.0), F.lit(limit) * F.col("median") / F.col("size")).alias("share")
    )
    return events.join(shares, on=["user_id", "session"], how="inner")


def damp_popular(pairs: DataFrame, a: float) -> DataFrame:
    """Smooth inverse frequency: multiply weights of ``pairs`` by a / (a + p), p the item's share of their events."""
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
    """The newest event of each item and type in a ``session``. A pause longer than the gap ends a session."""
    by_time = Window.partitionBy("user_id").orderBy("timestamp")
    pause = F.unix_micros("timestamp") - F.lag(F.unix_micros("timestamp")).over(by_time)
    starts = events.withColumn("starts", F.when(pause > gap_minutes * 60e6, 1).otherwise(0))
    so_far = by_time.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    numbered = starts.withColumn("session", F.sum("starts").over(so_far))
    once = numbered.groupBy("user_id", "item_id", "event_type", "session").agg(
        F.max("timestamp").alias("newest"), F.max_by("value", "timestamp").alias("value")
    )
    return once.select("user_id", "item_id", "event_type", F.col("newest").alias("timestamp"), "value", "session")
