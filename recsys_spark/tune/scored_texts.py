"""Tables and reviews to what an encoder is trained on. Pure DataFrame functions."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.ingest.text_columns import cleaned
from recsys_spark.ingest.times import moment

SCORED = ("user_id", "item_id", "text", "score", "timestamp")


def review_pairs(reviews: DataFrame, max_chars: int) -> DataFrame:
    """SCORED rows of reviews: ``user_id, item_id, text, score, timestamp`` as a dataset file selects them. Without a
    text, a finite score or a time a row is left out; of several of one user, item and time one stays."""
    score, time = F.expr("try_cast(score AS double)"), moment(reviews, "timestamp")
    text = cleaned(F.col("text").cast("string"), max_chars)
    rows = reviews.select("user_id", "item_id", text.alias("text"), score.alias("score"), time.alias("timestamp"))
    return _usable(rows)


def rating_pairs(events: DataFrame, users: DataFrame, items: DataFrame) -> DataFrame:
    """SCORED rows of events that have a value: the user's own text, where there is one, and the item's."""
    own = users.select("user_id", F.col("text").alias("user_text"))
    about = items.select("item_id", F.col("text").alias("item_text")).where(F.col("item_text").isNotNull())
    rows = events.join(about, on="item_id").join(own, on="user_id", how="left")
    text = F.concat_ws(" ", "user_text", "item_text").alias("text")
    return _usable(rows.select("user_id", "item_id", text, F.col("value").alias("score"), "timestamp"))


def _usable(rows: DataFrame) -> DataFrame:
    known = rows.where("user_id IS NOT NULL AND item_id IS NOT NULL AND timestamp IS NOT NULL")
    finite = known.where("length(text) > 0 AND score IS NOT NULL AND NOT isnan(score) AND abs(score) < 1e12")
    newest = Window.partitionBy("user_id", "item_id", "timestamp").orderBy(F.desc("score"), "text")
    return finite.withColumn("place", F.row_number().over(newest)).where("place = 1").select(*SCORED)
