"""Groups of items, and the categories of users' histories. Pure DataFrame functions."""

from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.tables.run_date import events_before

MOST_NAMES = 16
"""Categories of a history that calibration compares: the greatest."""

_HEAD_SHARE = 0.5


def item_groups(items: DataFrame, events: DataFrame, on: str, run_date: date, head_from: int = 0) -> DataFrame:
    """``item_id, group_name``: the group of every item, null without one.

    Args:
        items: rows of ``items``.
        events: rows of ``events``; those before ``run_date`` count.
        on: brand, category (the last name of the path), popularity or novelty.
        run_date: the day of the lists.
        head_from: popularity: least number of events of the head, from ``head_threshold``.
    """
    if on in ("brand", "category"):
        value = F.try_element_at("category", F.lit(-1)) if on == "category" else F.col("brand")
        return items.select("item_id", value.alias("group_name"))
    counted = events_before(events, run_date).groupBy("item_id").agg(F.count("*").alias("n"))
    n = F.coalesce("n", F.lit(0))
    name = F.when(n >= head_from, "head").otherwise("tail") if on == "popularity" else _novelty(n)
    return items.select("item_id").join(counted, on="item_id", how="left").select("item_id", name.alias("group_name"))


def _novelty(events: Column) -> Column:
    return F.when(events == 0, "cold").otherwise("warm")


def popularity_counts(events: DataFrame, run_date: date) -> DataFrame:
    """``n, items``: how many items have n events before ``run_date``. There are far fewer counts than items."""
    counted = events_before(events, run_date).groupBy("item_id").agg(F.count("*").alias("n"))
    return counted.groupBy("n").agg(F.count("*").alias("items"))


def head_threshold(counts: list[tuple[int, int]]) -> int:
    """The greatest number of events n such that items with n or more have half of all events; 0 without events.

    ``counts``: (events, items with that many), any order. Items of equal popularity are in one group.
    """
    total, reached = sum(n * items for n, items in counts), 0
    for n, items in sorted(counts, reverse=True):
        reached += n * items
        if reached >= _HEAD_SHARE * total:
            return n
    return 0


def category_names(items: DataFrame) -> DataFrame:
    """``item_id, names``: hashes of the distinct category names of every item; null without one."""
    names = F.transform(F.array_distinct(F.array_compact("category")), lambda name: F.xxhash64(name))
    return items.select("item_id", F.when(F.size(names) > 0, names).alias("names"))


def history_shares(pairs: DataFrame, names: DataFrame) -> DataFrame:
    """``user_id, history``: the categories of each user's items, as structs of ``name`` and ``share``.

    An item gives each of its names an equal part. The MOST_NAMES greatest are kept, equal ones by name, and their
    shares sum to 1.

    Args:
        pairs: ``user_id, item_id`` of the histories, distinct.
        names: from ``category_names``.
    """
    spread = pairs.join(names.where(F.col("names").isNotNull()), on="item_id", how="inner").select(
        "user_id", F.explode("names").alias("name"), (1.0 / F.size("names")).alias("part")
    )
    # Rounded to whole numbers, so that a sum does not depend on its order.
    part = F.sum(F.round(F.col("part") * (1 << 20)).cast("bigint")).alias("part")
    summed = spread.groupBy("user_id", "name").agg(part)
    greatest = F.slice(F.array_sort(F.collect_list(F.struct((-F.col("part")).alias("part"), "name"))), 1, MOST_NAMES)
    kept = summed.groupBy("user_id").agg(greatest.alias("kept"))
    total = F.aggregate("kept", F.lit(0).cast("bigint"), lambda sum_, one: sum_ - one["part"])
    shares = F.transform("kept", lambda one: F.struct(one["name"].alias("name"), (-one["part"] / total).alias("share")))
    return kept.select("user_id", shares.alias("history"))


def candidate_lists(lists: DataFrame, traits: DataFrame, histories: DataFrame | None = None) -> DataFrame:
    """``user_id, candidates, history``: the candidates of every user as structs, in the order of their ranks.

    Args:
        lists: ``user_id, item_id, rank, score, source, reasons``.
        traits: ``item_id`` with ``group`` (int) and ``names``.
        histories: from ``history_shares``; None: ``history`` is null.
    """
    rows = lists.join(traits, on="item_id", how="left")
    entry = F.struct(
        "rank",
        "item_id",
        "score",
        F.coalesce("group", F.lit(-1)).cast("int").alias("group"),
        F.xxhash64("item_id").alias("item_hash"),
        "names",
        "source",
        "reasons",
    )
    users = rows.groupBy("user_id").agg(F.array_sort(F.collect_list(entry)).alias("candidates"))
    if histories is None:
        return users.withColumn("history", F.lit(None).cast("array<struct<name:bigint,share:double>>"))
    return users.join(histories, on="user_id", how="left")
