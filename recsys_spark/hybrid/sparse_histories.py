"""Histories and item weights in the form that hybrid lists are made of. Pure DataFrame functions."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.events.codes import code


def histories(pairs: DataFrame) -> DataFrame:
    """``user_id, history, history_weights``: the items of each user as codes, ascending, and what each counts.

    ``pairs``: ``user_id, item_id, weight``, each pair once.
    """
    own = F.struct(code(F.col("item_id")).alias("code"), F.col("weight").cast("double").alias("weight"))
    lists = pairs.where("weight != 0").groupBy("user_id").agg(F.array_sort(F.collect_list(own)).alias("own"))
    return lists.select("user_id", F.col("own.code").alias("history"), F.col("own.weight").alias("history_weights"))


def weighted_items(weights: DataFrame) -> DataFrame:
    """``item_id, neighbors, weights, embedding``: what an item block carries for sparse scores; the vector is empty of
    meaning."""
    own = F.struct(code(F.col("neighbor_id")).alias("code"), "weight")
    lists = weights.groupBy("item_id").agg(F.array_sort(F.collect_list(own)).alias("own"))
    nothing = F.array(F.lit(0.0).cast("float")).alias("embedding")
    return lists.select("item_id", F.col("own.code").alias("neighbors"), F.col("own.weight").alias("weights"), nothing)
