"""What one event counts: weight by type, rating, age."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.events.history import History, counted_events, damp_popular
from recsys_spark.tables.run_date import events_before

_PLAIN = History()

GRID = 2.0**40
"""Weights are whole numbers of its inverse, so that they add up to the same in any order."""

_MOST = 2.0**16
"""One event counts at most this much: a broken value must not overflow a sum. Below 2⁻⁴⁰, after 40 half-lives, it
counts nothing."""

_PART = 20
"""Bits of the lower part of a weight. Parts are added up apart: of one user and item the sums hold 2²⁷ events of the
greatest weight, where sums of whole weights would overflow with 128."""


@dataclass(frozen=True)
class EventWeights:
    """What an event counts: ``by_type`` × (value − rating_center, for ratings) × 2^(−age in days / half_life_days).

    Age is counted from the user's newest event: time alone changes no profile, to the last bit, and whoever was away
    for years is known as before. A ``half_life_days`` of 0 leaves age out.
    """

    by_type: Mapping[str, float]
    rating_center: float
    half_life_days: float
    rating_type: str = "rating"

    def column(self) -> Column:
        """The weight of an event times its ``decay``, in units of 2⁻⁴⁰ as a long: integers add up to the same sum in
        any order. With a half-life in days it wants ``newest``, the time of the user's newest event."""
        kinds = F.create_map(*(F.lit(x) for pair in sorted(self.by_type.items()) for x in pair))
        centred = F.when(
            F.col("event_type") == self.rating_type, F.coalesce(F.col("value") - self.rating_center, F.lit(1.0))
        )
        aged = F.lit(1.0)
        if self.half_life_days:
            seconds = F.col("newest").cast("double") - F.col("timestamp").cast("double")
            aged = F.pow(F.lit(2.0), -seconds / (86_400.0 * self.half_life_days))
        weight = F.try_element_at(kinds, F.col("event_type")) * F.coalesce(centred, F.lit(1.0)) * aged * F.col("decay")
        bounded = F.greatest(F.lit(-_MOST), F.least(F.lit(_MOST), F.coalesce(weight, F.lit(0.0))))
        return F.round(bounded * GRID).cast("bigint")


def weigh_pairs(events: DataFrame, run_date: date, weights: EventWeights, history: History = _PLAIN) -> DataFrame:
    """``user_id, item_id, weight, events, last_timestamp``: what each item counts for a user, decayed to the user's
    newest event; ``events`` are those before ``run_date`` that ``history`` lets count."""
    known = counted_events(events_before(events, run_date), history)
    if weights.half_life_days:
        newest = known.groupBy("user_id").agg(F.max("timestamp").alias("newest"))
        known = known.join(newest, on="user_id", how="inner")
    known = known.withColumn("units", weights.column())
    upper = F.shiftright("units", _PART)
    pairs = known.groupBy("user_id", "item_id").agg(
        F.sum(upper).alias("upper"),
        F.sum(F.col("units") - F.shiftleft(upper, _PART)).alias("lower"),
        F.count("*").alias("events"),
        F.max("timestamp").alias("last_timestamp"),
    )
    # Rounded once, as the cast of their whole sum would be.
    weight = ((F.col("upper").cast("double") * 2.0**_PART + F.col("lower")) / GRID).alias("weight")
    weighed = pairs.select("user_id", "item_id", weight, "events", "last_timestamp")
    return weighed if history.sif is None else damp_popular(weighed, history.sif)
