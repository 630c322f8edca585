"""Users and items as of a day, as the ranked scorer reads them. Pure DataFrame functions."""

from collections.abc import Sequence
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.events.codes import code
from recsys_spark.events.recency import age_in_days
from recsys_spark.hybrid.history_scorer import WEIGHT_COLUMNS
from recsys_spark.hybrid.sparse_histories import weighted_items
from recsys_spark.ranking.candidate_search import ITEM_COLUMNS
from recsys_spark.ranking.statistics import item_features, own_items, popular_candidates
from recsys_spark.tables.schemas import ANYONE
from recsys_spark.topk.lists import HISTORY_COLUMNS, RANKING_COLUMNS
from recsys_spark.topk.rules import is_available


def ranked_items(
    items: DataFrame,
    vectors: DataFrame,
    weights: DataFrame,
    pairs: DataFrame,
    most: int,
    by: str | None = None,
    day: date | None = None,
) -> DataFrame:
    """``item_id, embedding`` (zeros without a vector) and ITEM_COLUMNS of every item.

    Args:
        items: ``item_id, title, available_from, available_until``, and the column ``by``, if given.
        vectors: ``item_id, embedding``.
        weights: rows of ``item_weights``, or none.
        pairs: from ``user_item_statistics``.
        most: number of popular items at each half-life, for each value of ``by``.
        by: column of items, whose values the lists must match.
        day: only items that are available on it are popular ones; None for all.
    """
    names: list[Column | str] = [
        "item_id",
        "title",
        (is_available(day) if day else F.lit(True)).alias("available"),
        *([by] if by else []),
    ]
    rows = item_features(items.select(*names), pairs)
    candidates = rows.where(F.col("available") & F.col("popularity").isNotNull())
    popular = popular_candidates(candidates, most, by).withColumn("popular", F.lit(True))
    rows = rows.join(weighted_items(weights).drop("embedding"), on="item_id", how="left")
    rows = rows.join(F.broadcast(popular), on="item_id", how="left")
    filled = {name: F.coalesce(name, F.array().cast(kind)) for name, kind in WEIGHT_COLUMNS.items()}
    filled["popular"] = F.coalesce("popular", F.lit(False))
    filled["embedding"] = F.coalesce("embedding", F.array_repeat(F.lit(0.0).cast("float"), F.col("dimension")))
    rows = rows.join(vectors.select("item_id", "embedding"), on="item_id", how="left")
    size = vectors.agg(F.coalesce(F.max(F.size("embedding")), F.lit(1)).alias("dimension"))
    rows = rows.crossJoin(F.broadcast(size)).withColumns(filled).withColumn("code", code(F.col("item_id")))
    return rows.select("item_id", *ITEM_COLUMNS, "embedding")


def ranked_users(ids: DataFrame, pairs: DataFrame, histories: DataFrame) -> DataFrame:
    """``user_id, user_code``, HISTORY_COLUMNS and RANKING_COLUMNS of every user in ``ids``; empty without a history.

    Args:
        ids: ``user_id``, and columns that are kept.
        pairs: from ``user_item_statistics``.
        histories: from ``sparse_histories.histories``.
    """
    rows = ids.join(own_items(pairs), on="user_id", how="left").join(histories, on="user_id", how="left")
    kinds = {**HISTORY_COLUMNS, **RANKING_COLUMNS}
    empty = {name: F.coalesce(name, F.array().cast(kind)) for name, kind in kinds.items()}
    return rows.withColumns(empty | {"user_code": code(F.col("user_id"))})


def all_users(users: DataFrame, events: DataFrame) -> DataFrame:
    """``user_id`` of the users of the table and of the events, once, and ANYONE."""
    anyone = users.sparkSession.range(1).select(F.lit(ANYONE).alias("user_id"))
    return users.select("user_id").union(events.select("user_id")).union(anyone).distinct()


def example_users(events: DataFrame, start: date, positive: Column, most: int, seed: int) -> DataFrame:
    """``user_id, wanted``: what up to ``most`` users chose in a window, as codes of items, ascending.

    Args:
        events: before the end of the window.
        start: its first day.
        positive: whether an event speaks for its item.
        most: number of users, drawn by a hash of their id.
        seed: of the hash.
    """
    window = events.where((F.col("timestamp") >= F.lit(str(start)).cast("timestamp")) & positive)
    drawn = window.select("user_id").distinct().orderBy(F.xxhash64("user_id", F.lit(seed)), "user_id").limit(most)
    items = F.array_sort(F.collect_set(code(F.col("item_id"))))
    return window.join(drawn, on="user_id", how="left_semi").groupBy("user_id").agg(items.alias("wanted"))


def users_by_days(events: DataFrame, positive: Column, before: date, windows: Sequence[int]) -> DataFrame:
    """One row, ``users`` (array<bigint>): for each window the number of users who chose something in that many days.

    Args:
        events: before ``before``.
        positive: whether an event speaks for its item.
        before: the end of the windows.
        windows: lengths in days.
    """
    age = F.min(F.when(positive, age_in_days(before)))
    users = events.groupBy("user_id").agg(age.alias("age"))
    return users.agg(F.array(*(F.count_if(F.col("age") <= days) for days in windows)).alias("users"))
