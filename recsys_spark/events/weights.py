"""The weight of an event: by type, rating and age."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.events.history import History, counted_events, damp_popular
from recsys_spark.tables.run_date import events_before

_PLAIN = History()

GRID = 2.0**40
"""Weights are integer multiples of 1 / GRID, so that their sum is the same in any order."""

_MAX_WEIGHT = 2.0**16
"""Bound of an event's weight, since a broken value must not overflow a sum. A weight below half of 2⁻⁴⁰, after about 40
half-lives, is 0."""

_PART = 20
"""Bits of the lower part of a weight. The parts are added separately: for one user and item their sums can hold 2²⁷
events of the greatest weight, while sums of undivided weights would overflow at 128."""


@dataclass(frozen=True)
class EventWeights:
    """Weight of an event: ``by_type`` × (value − rating_center, for ratings) × 2^(−age in days / half_life_days).

    The age is relative to the user's newest event. The passing of time therefore changes no bit of a profile, and a
    user who returns after years still has one. With a ``half_life_days`` of 0 the age does not count.
    """

    by_type: Mapping[str, float]
    rating_center: float
    half_life_days: float
    rating_type: str = "rating"

    def column(self) -> Column:
        """The weight of an event times its ``decay``, in units of 2⁻⁴⁰ as a long: a sum of integers has no order.

        With a half-life in days it needs ``newest``, the time of the user's newest event.
        """
        by_type = F.create_map(*(F.lit(x) for pair in sorted(self.by_type.items()) for x in pair))
        centred = F.when(
            F.col("event_type") == self.rating_type, F.coalesce(F.col("value") - self.rating_center, F.lit(1.0))
        )
        aged = F.lit(1.0)
        if self.half_life_days:
            seconds = F.col("newest").cast("double") - F.col("timestamp").cast("double")
            aged = F.pow(F.lit(2.0), -seconds / (86_400.0 * self.half_life_days))
        weight = (
            F.try_element_at(by_type, F.col("event_type")) * F.coalesce(centred, F.lit(1.0)) * aged * F.col("decay")
        )
        bounded = F.greatest(F.lit(-_MAX_WEIGHT), F.least(F.lit(_MAX_WEIGHT), F.coalesce(weight, F.lit(0.0))))
        return F.round(bounded * GRID).cast("bigint")


def weigh_pairs(events: DataFrame, run_date: date, weights: EventWeights, history: History = _PLAIN) -> DataFrame:
    """``user_id, item_id, weight, events, last_timestamp``: the weight of each item for a user.

    Weights decay with the distance to the user's newest event. Only events before ``run_date`` that ``history`` selects
    count.
    """
    counted = counted_events(events_before(events, run_date), history)
    if weights.half_life_days:
        newest = counted.groupBy("user_id").agg(F.max("timestamp").alias("newest"))
        counted = counted.join(newest, on="user_id", how="inner")
    counted = counted.withColumn("units", weights.column())
    upper = F.shiftright("units", _PART)
    pairs = counted.groupBy("user_id", "item_id").agg(
        F.sum(upper).alias("upper"),
        F.sum(F.col("units") - F.shiftleft(upper, _PART)).alias("lower"),
        F.count("*").alias("events"),
        F.max("timestamp").alias("last_timestamp"),
    )
    # Rounded once, as a cast of the undivided sum would be.
    weight = ((F.col("upper").cast("double") * 2.0**_PART + F.col("lower")) / GRID).alias("weight")
    weighed = pairs.select("user_id", "item_id", weight, "events", "last_timestamp")
    return weighed if history.sif is None else damp_popular(weighed, history.sif)
