"""What ranks a candidate besides its scores: the statistics of items, and of the items that a user had.

All ages are whole days before the cut, so that one function serves both the day of the lists and the earlier days that
the ranker is trained on. Pure DataFrame functions.
"""

import math
from datetime import date
from functools import reduce
from itertools import pairwise

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.events.codes import code
from recsys_spark.events.recency import UNIT, age_in_days, decayed
from recsys_spark.events.trust import distrusted
from recsys_spark.ranking.kernels.features import HALF_LIVES, OWN_HALF_LIVES, SOURCE_HALF_LIVES

_LEAST_COUNT = 0.001
"""Keeps the logarithm of a share finite."""

_PRIOR = 5.0
"""Events, or users, that the share of all items counts for."""

MOST_OWN_ITEMS = 500
"""The newest items of a user that are candidates and features; a heavier user's older ones are left out."""


def user_item_statistics(events: DataFrame, before: date, positive: Column) -> DataFrame:
    """``user_id, item_id, events, times, first, last, count_…, trust``: what each user had; ``trust`` is 1.

    ``first`` and ``last`` are ages of events in days. ``times`` and the counts are of positive events; the counts
    (bigint) are decayed with HALF_LIVES, in multiples of 1 / UNIT.

    Args:
        events: ``user_id, item_id, timestamp`` before the cut, and what ``positive`` reads.
        before: the cut; an event of the day before has age 1.
        positive: whether an event speaks for its item.
    """
    slim = events.select("user_id", "item_id", age_in_days(before).alias("age"), positive.alias("positive"))
    units = [F.when(F.col("positive"), decayed(F.col("age"), days)) for days in HALF_LIVES]
    return slim.groupBy("user_id", "item_id").agg(
        F.count("*").alias("events"),
        F.count_if("positive").cast("int").alias("times"),
        F.max("age").alias("first"),
        F.min("age").alias("last"),
        *(F.coalesce(F.sum(one), F.lit(0)).alias(f"count_{days}") for one, days in zip(units, HALF_LIVES, strict=True)),
        F.lit(1.0).alias("trust"),
    )


def trusted_statistics(pairs: DataFrame, risk: DataFrame) -> DataFrame:
    """``pairs`` with the trust in their users, by which the items of ``item_features`` then count.

    Args:
        pairs: from ``user_item_statistics``.
        risk: rows of ``user_risk``.
    """
    rows = pairs.drop("trust").join(distrusted(risk), on="user_id", how="left")
    return rows.withColumn("trust", F.coalesce("trust", F.lit(1.0)))


def item_features(items: DataFrame, pairs: DataFrame) -> DataFrame:
    """The columns of ``items`` with ``features``, ITEM_FEATURES as array<float>, and ``popularity``.

    ``popularity`` (array<double>) holds the decayed counts of SOURCE_HALF_LIVES; it is null without an event. Events
    and users count by trust, a power of four of which sums are exact.

    Args:
        items: ``item_id``, each once.
        pairs: from ``user_item_statistics`` or ``trusted_statistics``.
    """
    counts = [f"count_{days}" for days in HALF_LIVES]
    trust = F.col("trust")
    sums = {
        **{name: F.sum((F.col(name) * trust).cast("bigint")) / UNIT for name in counts},
        "users": F.sum(trust),
        "again": F.sum(F.when(F.col("first") > F.col("last"), trust).otherwise(0.0)),
        "positive": F.sum(F.col("times") * trust),
        "events": F.sum(F.col("events") * trust),
    }
    ages = {"first": F.max("first"), "last": F.min("last")}
    by_item = pairs.groupBy("item_id").agg(*(value.alias(name) for name, value in (sums | ages).items()))
    over_all = by_item.agg(
        *(F.coalesce(F.max(name), F.lit(0)).alias(f"max_{name}") for name in counts),
        *(F.coalesce(F.sum(name), F.lit(0)).alias(f"all_{name}") for name in ("users", "again", "positive", "events")),
    )
    popularity = F.when(F.col("events") > 0, F.array(*(F.col(f"count_{days}") for days in SOURCE_HALF_LIVES)))
    rows = items.join(by_item, on="item_id", how="left").withColumn("popularity", popularity)
    rows = rows.fillna(0, list(sums)).crossJoin(F.broadcast(over_all))
    shares = [F.log((F.col(name) + _LEAST_COUNT) / (F.col(f"max_{name}") + _LEAST_COUNT)) for name in counts[1:]]
    trends = [F.log((F.col(one) + 0.5) / (F.col(other) + 0.5)) for one, other in pairwise(counts)]
    rates = [_smoothed("positive", "events"), _smoothed("again", "users")]
    values = [*shares, *trends, *(F.coalesce(name, F.lit(math.nan)) for name in ages), *rates]
    features = F.array(*(value.cast("float") for value in values))
    return rows.select(*items.columns, features.alias("features"), "popularity")


def _smoothed(part: str, whole: str) -> Column:
    """The share of ``part``, towards that of all items where an item has few."""
    overall = F.col(f"all_{part}") / F.greatest(f"all_{whole}", F.lit(1))  # before the first event there is none
    return (F.col(part) + _PRIOR * overall) / (F.col(whole) + _PRIOR)


def own_items(pairs: DataFrame) -> DataFrame:
    """``user_id, own_items, own_values``: codes of the items that a user had, ascending, and OWN_STATISTICS of each.

    ``own_values`` (array<float>) holds the statistics of one item after those of another. Users with more than
    MOST_OWN_ITEMS items keep the newest.
    """
    counts = [F.col(f"count_{days}") / UNIT for days in OWN_HALF_LIVES]
    values = F.array(*(column.cast("float") for column in (F.col("times"), F.col("first"), F.col("last"), *counts)))
    entry = F.struct(F.col("last"), code(F.col("item_id")).alias("code"), values.alias("values"))
    users = pairs.groupBy("user_id").agg(F.slice(F.array_sort(F.collect_list(entry)), 1, MOST_OWN_ITEMS).alias("own"))
    by_code = F.array_sort(F.transform("own", lambda one: F.struct(one["code"], one["values"])))
    users = users.select("user_id", by_code.alias("own"))
    return users.select(
        "user_id", F.col("own.code").alias("own_items"), F.flatten(F.col("own.values")).alias("own_values")
    )


def popular_candidates(items: DataFrame, most: int, by: str | None) -> DataFrame:
    """``item_id`` of the ``most`` items of greatest decayed count at each of SOURCE_HALF_LIVES.

    ``items``: ``item_id, popularity`` and ``by``, if given: then ``most`` of each value of this column. Ties are broken
    by the item's code.
    """
    code_of, lists = code(F.col("item_id")), []
    for number in range(len(SOURCE_HALF_LIVES)):
        order = [F.element_at("popularity", number + 1).desc(), code_of]
        if by is None:  # a window without a partition would sort in one task, and warn of it
            lists.append(items.orderBy(*order).limit(most).select("item_id"))
        else:
            place = F.row_number().over(Window.partitionBy(by).orderBy(*order))
            lists.append(items.withColumn("place", place).where(F.col("place") <= most).select("item_id"))
    return reduce(DataFrame.union, lists).distinct()
