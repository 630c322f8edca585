"""Metrics of published lists against later events. Pure DataFrame functions."""

from collections.abc import Mapping, Sequence
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.events.recency import age_in_days, decayed
from recsys_spark.events.relevance import is_positive_event
from recsys_spark.tables.run_date import events_before


def relevant_pairs(
    events: DataFrame, run_date: date, by_type: Mapping[str, float], min_rating: float, *, repeats: bool = False
) -> DataFrame:
    """``user_id, item_id`` of relevant items: a positive event on or after ``run_date``.

    A rating is positive from ``min_rating`` on, any other type if its weight is positive. Items of earlier events are
    left out where lists leave them out too: without ``repeats``.
    """
    later = events.where(
        (F.col("timestamp") >= F.lit(str(run_date)).cast("timestamp")) & is_positive_event(by_type, min_rating)
    )
    pairs = later.select("user_id", "item_id").distinct()
    if repeats:
        return pairs
    # The semi join comes first: where the relevant pairs are few, they are broadcast and no other event is shuffled.
    earlier = (
        events_before(events, run_date)
        .select("user_id", "item_id")
        .join(pairs, on=["user_id", "item_id"], how="left_semi")
    )
    return pairs.join(earlier, on=["user_id", "item_id"], how="left_anti")


def user_metrics(recommendations: DataFrame, relevant: DataFrame, k: int, by: Sequence[str] = ()) -> DataFrame:
    """Metrics of the first k ranks: one row per user who has both a list and a relevant item.

    With columns ``by``, such as ``scorer``, there is one row per user and value, and they are part of the result. A hit
    is a rank up to k that holds a relevant item.

    - ``hit_rate`` 1 if there is a hit; ``mrr`` 1 / rank of the first hit, 0 without one.
    - ``precision`` hits / k; ``recall`` hits / min(k, relevant items).
    - ``ndcg`` Σ 1/log2(rank + 1) over the hits, divided by the same sum over ranks 1 … min(k, relevant items).

    The missing ranks of a list shorter than k are misses.
    """
    evaluated = relevant.select("user_id").distinct()
    listed = recommendations.where(F.col("rank") <= k).join(evaluated, on="user_id", how="left_semi")
    marked = listed.join(relevant.withColumn("hit", F.lit(1)), on=["user_id", "item_id"], how="left")
    hits = marked.groupBy("user_id", *by).agg(
        F.count("hit").alias("hits"),
        F.min(F.when(F.col("hit") == 1, F.col("rank"))).alias("first"),
        F.coalesce(F.sum(F.when(F.col("hit") == 1, _gain(F.col("rank")))), F.lit(0.0)).alias("dcg"),
    )
    truth = relevant.groupBy("user_id").agg(F.count("*").alias("relevant"))
    ideal = F.aggregate(
        F.sequence(F.lit(1), F.least("relevant", F.lit(k)).cast("int")), F.lit(0.0), lambda s, r: s + _gain(r)
    )
    return truth.join(hits, on="user_id", how="inner").select(
        "user_id",
        *by,
        F.when(F.col("hits") > 0, 1.0).otherwise(0.0).alias("hit_rate"),
        (F.col("hits") / k).alias("precision"),
        (F.col("hits") / F.least("relevant", F.lit(k))).alias("recall"),
        (F.col("dcg") / ideal).alias("ndcg"),
        F.coalesce(1.0 / F.col("first"), F.lit(0.0)).alias("mrr"),
    )


def mean_metrics(per_user: DataFrame, recommendations: DataFrame, items: DataFrame, k: int) -> DataFrame:
    """``metric, value, users``: the mean of each metric over users, and ``coverage``, the share of the catalogue that
    the lists contain."""
    names = [name for name in per_user.columns if name != "user_id"]
    means = per_user.agg(F.count("*").alias("users"), *(F.avg(name).alias(name) for name in names))
    long = means.unpivot("users", tuple(names), "metric", "value").select("metric", "value", "users")
    listed = recommendations.where(F.col("rank") <= k).agg(
        F.countDistinct("item_id").alias("listed"), F.countDistinct("user_id").alias("users")
    )
    share = (F.col("listed") / F.nullif("size", F.lit(0))).alias("value")
    size = items.agg(F.count("*").alias("size"))
    coverage = listed.crossJoin(size).select(F.lit("coverage").alias("metric"), share, "users")
    return long.unionByName(coverage).where(F.col("value").isNotNull())


def popularity_lists(
    events: DataFrame,
    users: DataFrame,
    run_date: date,
    k: int,
    *,
    popular: DataFrame | None = None,
    repeats: bool = False,
) -> DataFrame:
    """``user_id, item_id, rank``: the popularity baseline.

    Each of ``users`` gets the k most popular items that are new to them; with ``repeats`` also those that are not.
    ``popular``: from ``popular_items`` (the default) or ``recently_popular_items``.
    """
    users = users.select("user_id").distinct()
    popular = F.broadcast(popular_items(events, run_date) if popular is None else popular)
    if repeats:
        first = users.crossJoin(popular).select("user_id", F.slice("popular", 1, k).alias("unseen"))
        return _ranked(first)
    earlier = events_before(events, run_date).join(users, on="user_id", how="left_semi")
    seen = earlier.groupBy("user_id").agg(F.collect_set("item_id").alias("seen"))
    rows = users.join(seen, on="user_id", how="left").crossJoin(popular)
    unseen = F.slice(F.array_except("popular", F.coalesce("seen", F.array().cast("array<string>"))), 1, k)
    return _ranked(rows.select("user_id", unseen.alias("unseen")))


def _ranked(lists: DataFrame) -> DataFrame:
    rows = lists.select("user_id", F.posexplode("unseen").alias("position", "item_id"))
    return rows.select("user_id", "item_id", (F.col("position") + 1).alias("rank"))


def popular_items(events: DataFrame, run_date: date, most: int = 1000) -> DataFrame:
    """One row, ``popular``: the ``most`` items with most events before ``run_date``, by count, then by id."""
    return _first(events_before(events, run_date).groupBy("item_id").agg(F.count("*").alias("n")), most)


def recently_popular_items(
    events: DataFrame, run_date: date, positive: Column, half_life_days: float, most: int = 1000
) -> DataFrame:
    """One row, ``popular``: the ``most`` items of greatest Σ 2^(−age / half_life_days) over positive events."""
    count = F.sum(decayed(age_in_days(run_date), half_life_days))
    chosen = events_before(events, run_date).where(positive)
    return _first(chosen.groupBy("item_id").agg(count.alias("n")), most)


def _first(counted: DataFrame, most: int) -> DataFrame:
    """One row, ``popular``: the ``most`` items of greatest ``n``, then by id."""
    first = counted.orderBy(F.desc("n"), "item_id").limit(most)
    order = F.array_sort(F.collect_list(F.struct((-F.col("n")).alias("n"), "item_id")))
    return first.agg(F.transform(order, lambda one: one["item_id"]).alias("popular"))


def paired_difference(lists: DataFrame, others: DataFrame, metric: str) -> DataFrame:
    """One row, ``mean, error, users``: mean difference of a metric over the users of both, and its standard error.

    ``lists, others``: from ``user_metrics``.
    """
    both = lists.select("user_id", F.col(metric).alias("one")).join(
        others.select("user_id", F.col(metric).alias("other")), on="user_id", how="inner"
    )
    delta = F.col("one") - F.col("other")
    return both.agg(
        F.avg(delta).alias("mean"), (F.stddev(delta) / F.sqrt(F.count("*"))).alias("error"), F.count("*").alias("users")
    )


def _gain(rank: Column) -> Column:
    return 1.0 / F.log2(rank.cast("double") + 1.0)
