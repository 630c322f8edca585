"""Histories and item weights as the sparse rows that the history scorer multiplies. Pure DataFrame functions."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.events.codes import code


def histories(pairs: DataFrame) -> DataFrame:
    """``user_id, history, history_weights``: the codes of each user's items, ascending, and their weights.

    ``pairs``: ``user_id, item_id, weight``, each pair once.
    """
    event = F.struct(code(F.col("item_id")).alias("code"), F.col("weight").cast("double").alias("weight"))
    users = pairs.where("weight != 0").groupBy("user_id").agg(F.array_sort(F.collect_list(event)).alias("events"))
    return users.select(
        "user_id", F.col("events.code").alias("history"), F.col("events.weight").alias("history_weights")
    )


def weighted_items(weights: DataFrame) -> DataFrame:
    """``item_id, neighbors, weights, embedding``: an item block for sparse scores, with a dummy vector."""
    pair = F.struct(code(F.col("neighbor_id")).alias("code"), "weight")
    items = weights.groupBy("item_id").agg(F.array_sort(F.collect_list(pair)).alias("pairs"))
    dummy = F.array(F.lit(0.0).cast("float")).alias("embedding")
    return items.select(
        "item_id", F.col("pairs.code").alias("neighbors"), F.col("pairs.weight").alias("weights"), dummy
    )
