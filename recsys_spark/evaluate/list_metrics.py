"""Published lists against what happened afterwards. Pure DataFrame functions."""

from collections.abc import Mapping, Sequence
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.tables.run_date import events_before


def relevant_pairs(events: DataFrame, run_date: date, by_type: Mapping[str, float], min_rating: float) -> DataFrame:
    """``user_id, item_id`` that turned out relevant: a positive event on or after ``run_date`` with an item new to
    the user.

    A rating counts from ``min_rating``; any other type counts when its weight is positive. Items that the user had
    before are left out, since lists leave them out too.
    """
    later = events.where(
        (F.col("timestamp") >= F.lit(str(run_date)).cast("timestamp")) & is_positive_event(by_type, min_rating)
    )
    pairs = later.select("user_id", "item_id").distinct()
    # Where a day's pairs are few, no other event is shuffled to meet them.
    old = (
        events_before(events, run_date)
        .select("user_id", "item_id")
        .join(pairs, on=["user_id", "item_id"], how="left_semi")
    )
    return pairs.join(old, on=["user_id", "item_id"], how="left_anti")


def is_positive_event(by_type: Mapping[str, float], min_rating: float) -> Column:
    """Whether an event speaks for its item."""
    positive = [kind for kind, weight in by_type.items() if weight > 0 and kind != "rating"]
    rated = (F.col("event_type") == "rating") & (F.col("value") >= min_rating)
    return F.coalesce(F.col("event_type").isin(positive) | rated, F.lit(False))


def user_metrics(recommendations: DataFrame, relevant: DataFrame, k: int, by: Sequence[str] = ()) -> DataFrame:
    """One row per user who has both a list and something relevant, with the metrics of that user's first k places; of
    each value of the columns ``by`` (``scorer``) one, which are kept.

    - ``hit_rate`` 1 if any place is relevant; ``mrr`` 1 / rank of the first relevant place, 0 without one.
    - ``precision`` relevant places / k; ``recall`` relevant places / min(k, relevant items).
    - ``ndcg`` Σ 1/log2(rank + 1) over relevant places, divided by the same sum over ranks 1 … min(k, relevant items).

    A list shorter than k counts its missing places as misses.
    """
    judged = relevant.select("user_id").distinct()
    places = recommendations.where(F.col("rank") <= k).join(judged, on="user_id", how="left_semi")
    marked = places.join(relevant.withColumn("hit", F.lit(1)), on=["user_id", "item_id"], how="left")
    found = marked.groupBy("user_id", *by).agg(
        F.count("hit").alias("hits"),
        F.min(F.when(F.col("hit") == 1, F.col("rank"))).alias("first"),
        F.coalesce(F.sum(F.when(F.col("hit") == 1, _gain(F.col("rank")))), F.lit(0.0)).alias("dcg"),
    )
    truth = relevant.groupBy("user_id").agg(F.count("*").alias("relevant"))
    ideal = F.aggregate(
        F.sequence(F.lit(1), F.least("relevant", F.lit(k)).cast("int")), F.lit(0.0), lambda s, r: s + _gain(r)
    )
    return truth.join(found, on="user_id", how="inner").select(
        "user_id",
        *by,
        F.when(F.col("hits") > 0, 1.0).otherwise(0.0).alias("hit_rate"),
        (F.col("hits") / k).alias("precision"),
        (F.col("hits") / F.least("relevant", F.lit(k))).alias("recall"),
        (F.col("dcg") / ideal).alias("ndcg"),
        F.coalesce(1.0 / F.col("first"), F.lit(0.0)).alias("mrr"),
    )


def mean_metrics(per_user: DataFrame, recommendations: DataFrame, items: DataFrame, k: int) -> DataFrame:
    """``metric, value, users``: the mean over users, and ``coverage``: the share of the catalogue that any list
    shows."""
    names = [name for name in per_user.columns if name != "user_id"]
    means = per_user.agg(F.count("*").alias("users"), *(F.avg(name).alias(name) for name in names))
    long = means.unpivot("users", tuple(names), "metric", "value").select("metric", "value", "users")
    shown = recommendations.where(F.col("rank") <= k).agg(
        F.countDistinct("item_id").alias("shown"), F.countDistinct("user_id").alias("users")
    )
    share = (F.col("shown") / F.nullif("size", F.lit(0))).alias("value")
    size = items.agg(F.count("*").alias("size"))
    coverage = shown.crossJoin(size).select(F.lit("coverage").alias("metric"), share, "users")
    return long.unionByName(coverage).where(F.col("value").isNotNull())


def popularity_lists(events: DataFrame, users: DataFrame, run_date: date, k: int, candidates: int = 1000) -> DataFrame:
    """``user_id, item_id, rank``: the baseline that every scorer must be read against, most events before
    ``run_date`` first.

    Each of ``users`` gets the k most popular items that are new to them, out of the ``candidates`` most popular of all.
    """
    known, asked = events_before(events, run_date), users.select("user_id").distinct()
    own = known.join(asked, on="user_id", how="left_semi").groupBy("user_id").agg(F.collect_set("item_id").alias("own"))
    both = asked.join(own, on="user_id", how="left").crossJoin(F.broadcast(popular_items(events, run_date, candidates)))
    fresh = F.slice(F.array_except("popular", F.coalesce("own", F.array().cast("array<string>"))), 1, k)
    return both.select("user_id", F.posexplode(fresh).alias("place", "item_id")).select(
        "user_id", "item_id", (F.col("place") + 1).alias("rank")
    )


def popular_items(events: DataFrame, run_date: date, most: int = 1000) -> DataFrame:
    """One row, ``popular``: items by their events before ``run_date``, most first, then by id."""
    counted = events_before(events, run_date).groupBy("item_id").agg(F.count("*").alias("n"))
    first = counted.orderBy(F.desc("n"), "item_id").limit(most)
    order = F.array_sort(F.collect_list(F.struct((-F.col("n")).alias("n"), "item_id")))
    return first.agg(F.transform(order, lambda one: one["item_id"]).alias("popular"))


def _gain(rank: Column) -> Column:
    return 1.0 / F.log2(rank.cast("double") + 1.0)
