"""The items that attackers choose from. Pure DataFrame functions; every pool has a bound."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.events.codes import code
from recsys_spark.risk.draws import uniform

_BUCKET_ITEMS = 64

_POPULAR_SHARE, _MOST_POPULAR, _LEAST_POPULAR = 0.02, 1000, 10

_SEGMENT_ITEMS = 20

FARM_ITEMS = 20
"""Items that the accounts of a click farm open, besides the pushed one."""


def item_counts(events: DataFrame) -> DataFrame:
    """``item_id, users``: items with events and the number of their users."""
    return events.groupBy("item_id").agg(F.count_distinct("user_id").alias("users"))


def pushed_items(counts: DataFrame, number: int, seed: int) -> DataFrame:
    """``item_id`` of ``number`` items drawn from those with 5 users or more, but no more than the median item has.

    Where no item has 5 users and is below the median, those with the median or fewer are drawn from.
    """
    median = counts.agg(F.percentile("users", F.lit(0.5)).alias("median"))
    least = F.least(F.lit(5), F.col("median"))
    rare = counts.crossJoin(F.broadcast(median)).where(F.col("users").between(least, F.greatest(least, "median")))
    return rare.orderBy(uniform(F.col("item_id"), "target", seed), "item_id").limit(number).select("item_id")


def popular_items(counts: DataFrame, items: int) -> DataFrame:
    """``item_id`` of the most popular 2 % of ``items`` items, at least 10 and at most 1,000."""
    most = max(_LEAST_POPULAR, min(_MOST_POPULAR, int(items * _POPULAR_SHARE)))
    return counts.orderBy(F.desc("users"), code(F.col("item_id"))).limit(most).select("item_id")


def farm_items(counts: DataFrame, seed: int) -> DataFrame:
    """``item_id`` of the FARM_ITEMS items that a click farm opens."""
    return counts.orderBy(uniform(F.col("item_id"), "farm", seed), "item_id").limit(FARM_ITEMS).select("item_id")


def segment_items(events: DataFrame, counts: DataFrame, targets: DataFrame) -> DataFrame:
    """``target, items``: the 20 items that the users of each pushed item had most often beside it, by cosine."""
    fans = events.join(F.broadcast(targets), on="item_id", how="left_semi")
    fans = fans.select("user_id", F.col("item_id").alias("target")).distinct()
    beside = events.select("user_id", "item_id").distinct().join(fans, on="user_id", how="inner")
    common = beside.where("item_id != target").groupBy("target", "item_id").agg(F.count("*").alias("common"))
    cosine = F.col("common") / F.sqrt("users")
    scored = common.join(counts, on="item_id", how="inner")
    order = F.array_sort(F.collect_list(F.struct((-cosine).alias("less"), "item_id")))
    nearest = scored.groupBy("target").agg(F.slice(order, 1, _SEGMENT_ITEMS).alias("nearest"))
    return nearest.select("target", F.col("nearest.item_id").alias("items"))


def buckets(items: DataFrame, number: int) -> DataFrame:
    """``bucket, ids``: items by a hash in buckets of about 64, so that an item is drawn without a numbering of all."""
    bucket = F.pmod(code(F.col("item_id")), F.lit(bucket_count(number))).alias("bucket")
    return items.groupBy(bucket).agg(F.array_sort(F.collect_list("item_id")).alias("ids"))


def bucket_count(number: int) -> int:
    """The number of buckets of ``number`` items."""
    return max(1, number // _BUCKET_ITEMS)
