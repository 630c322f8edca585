"""What sets a segment apart: items and categories by log-odds. Pure DataFrame functions."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

_PRIOR = 500.0
"""Strength of the prior, as a number of pairs of a user and a word in the proportions of all segments."""


def user_words(pairs: DataFrame, items: DataFrame, kind: str) -> DataFrame:
    """``user_id, word``, distinct: the items of each user (kind item), or their category names (kind category).

    ``pairs``: ``user_id, item_id``.
    """
    if kind == "item":
        return pairs.select("user_id", F.col("item_id").alias("word")).distinct()
    names = items.select("item_id", F.explode("category").alias("word")).where(F.col("word").isNotNull())
    return pairs.join(names, on="item_id", how="inner").select("user_id", "word").distinct()


def distinctive_words(words: DataFrame, segments: DataFrame, least_users: int, most: int) -> DataFrame:
    """``segment, word, score, place``: the words that set each segment apart, the most distinctive first.

    The score is the log-odds of a word in the segment against all others, with a Dirichlet prior in the proportions of
    all users, over its standard deviation (Monroe et al., Fightin' Words, Political Analysis 16, 2008). Only words of
    at least ``least_users`` users of the segment and of positive score are named.

    Args:
        words: from ``user_words``.
        segments: ``user_id, segment``.
        least_users: of the segment.
        most: words of a segment.
    """
    counted = words.join(segments, on="user_id", how="inner").groupBy("segment", "word").agg(F.count("*").alias("own"))
    by_word = counted.groupBy("word").agg(F.sum("own").alias("all"))
    by_segment = F.broadcast(counted.groupBy("segment").agg(F.sum("own").alias("own_total")))
    total = F.broadcast(counted.agg(F.sum("own").alias("total")))
    rows = counted.where(F.col("own") >= least_users).join(by_word, on="word", how="inner")
    rows = rows.join(by_segment, on="segment", how="inner").crossJoin(total)
    prior = F.lit(_PRIOR) * F.col("all") / F.col("total")
    own, other = F.col("own") + prior, F.col("all") - F.col("own") + prior
    own_rest = F.col("own_total") + F.lit(_PRIOR) - own
    other_rest = F.col("total") - F.col("own_total") + F.lit(_PRIOR) - other
    score = (F.log(own / own_rest) - F.log(other / other_rest)) / F.sqrt(1 / own + 1 / other)
    scored = rows.select("segment", "word", score.alias("score")).where(F.col("score") > 0)
    order = Window.partitionBy("segment").orderBy(F.desc("score"), "word")
    return scored.withColumn("place", F.row_number().over(order)).where(F.col("place") <= most)
