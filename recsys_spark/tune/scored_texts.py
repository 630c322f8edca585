"""Texts to train on, with scores from reviews or rating events, or alone. Pure DataFrame functions."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.ingest.text_columns import cleaned
from recsys_spark.ingest.times import moment

SCORED = ("user_id", "item_id", "text", "score", "timestamp")


def review_pairs(reviews: DataFrame, max_chars: int, *, scrub: bool = False) -> DataFrame:
    """SCORED rows of reviews with the columns ``user_id, item_id, text, score, timestamp``, as a dataset file selects.

    Rows without a text, a finite score or a time are left out. Of several rows of one user, item and time one remains.
    ``scrub``: personal values in texts are replaced by their kind.
    """
    score, time = F.expr("try_cast(score AS double)"), moment(reviews, "timestamp")
    text = cleaned(F.col("text").cast("string"), max_chars, scrub=scrub)
    rows = reviews.select("user_id", "item_id", text.alias("text"), score.alias("score"), time.alias("timestamp"))
    return _usable(rows)


def rating_pairs(events: DataFrame, users: DataFrame, items: DataFrame) -> DataFrame:
    """SCORED rows of events with a value; the text is the user's, if any, followed by the item's."""
    user_texts = users.select("user_id", F.col("text").alias("user_text"))
    item_texts = items.select("item_id", F.col("text").alias("item_text")).where(F.col("item_text").isNotNull())
    rows = events.join(item_texts, on="item_id", how="inner").join(user_texts, on="user_id", how="left")
    text = F.concat_ws(" ", "user_text", "item_text").alias("text")
    return _usable(rows.select("user_id", "item_id", text, F.col("value").alias("score"), "timestamp"))


def distinct_texts(items: DataFrame, users: DataFrame) -> DataFrame:
    """The distinct texts of items and users, column ``text``."""
    texts = items.select("text").unionByName(users.select("text"))
    return texts.where("length(text) > 0").distinct()


def _usable(rows: DataFrame) -> DataFrame:
    complete = rows.where("user_id IS NOT NULL AND item_id IS NOT NULL AND timestamp IS NOT NULL")
    finite = complete.where("length(text) > 0 AND score IS NOT NULL AND NOT isnan(score) AND abs(score) < 1e12")
    copies = Window.partitionBy("user_id", "item_id", "timestamp").orderBy(F.desc("score"), "text")
    return finite.withColumn("copy", F.row_number().over(copies)).where("copy = 1").select(*SCORED)
