"""A showcase of a lake: sampled users, their recent favourites, their recommendations."""

from datetime import date

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.tables.run_date import events_before


def listed_users(recommendations: DataFrame, most: int) -> DataFrame:
    """``user_id`` of up to ``most`` users with a list, sampled by a hash of the id."""
    first = recommendations.where(F.col("rank") == 1).select("user_id")
    return first.orderBy(F.xxhash64("user_id"), "user_id").limit(most)


def sample_users(listed: DataFrame, events: DataFrame, run_date: date, users: int) -> DataFrame:
    """``user_id`` of up to ``users`` of ``listed`` by the same hash, those with ten or more earlier events first."""
    counted = events_before(events, run_date).groupBy("user_id").agg(F.count("*").alias("n"))
    active = listed.join(counted, on="user_id", how="left").select(
        "user_id", F.coalesce(F.col("n") >= 10, F.lit(False))
    )
    return active.toDF("user_id", "active").orderBy(F.desc("active"), F.xxhash64("user_id"), "user_id").limit(users)


def new_users(listed: DataFrame, events: DataFrame, run_date: date, most: int) -> DataFrame:
    """``user_id`` of up to ``most`` of ``listed`` without an event before ``run_date``, by the same hash."""
    new = listed.join(events_before(events, run_date), on="user_id", how="left_anti")
    return new.orderBy(F.xxhash64("user_id"), "user_id").limit(most)


def recent_favourites(events: DataFrame, items: DataFrame, users: DataFrame, run_date: date, most: int) -> DataFrame:
    """``user_id, title, value, timestamp``: the ``most`` best of each user's newest 30 events before ``run_date``."""
    past = (
        events_before(events, run_date)
        .join(users, on="user_id", how="left_semi")
        .where(F.col("event_type") != "cancel")
    )
    newest = Window.partitionBy("user_id").orderBy(F.desc("timestamp"), "item_id")
    best = Window.partitionBy("user_id").orderBy(F.desc_nulls_last("value"), F.desc("timestamp"), "item_id")
    recent = past.withColumn("age", F.row_number().over(newest)).where(F.col("age") <= 30)
    favourite = recent.withColumn("position", F.row_number().over(best)).where(F.col("position") <= most)
    titled = favourite.join(items.select("item_id", "title"), on="item_id", how="inner").orderBy("user_id", "position")
    return titled.select("user_id", "title", "value", "timestamp")


def listed_titles(recommendations: DataFrame, items: DataFrame, users: DataFrame) -> DataFrame:
    """``user_id, rank, title, score`` of the users' lists."""
    lists = recommendations.join(users, on="user_id", how="left_semi").join(
        items.select("item_id", "title"), on="item_id"
    )
    return lists.orderBy("user_id", "rank").select("user_id", "rank", "title", "score")
