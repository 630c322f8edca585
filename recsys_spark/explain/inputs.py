"""Inputs of reasons: a row per user with list and history, a row per item with its title."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.events.codes import code


def explanation_inputs(
    lists: DataFrame,
    pairs: DataFrame,
    event_types: DataFrame,
    own_texts: DataFrame | None = None,
    segments: DataFrame | None = None,
) -> DataFrame:
    """``user_id, listed, history, own_text, segment``: a row per user with all that its reasons depend on.

    Args:
        lists: ``user_id, item_id, score, rank``.
        pairs: ``user_id, item_id, weight``, each pair once: the terms of the scores.
        event_types: ``user_id, item_id, event_type``, each pair once: the event that a sentence names.
        own_texts: ``user_id, embedding``.
        segments: ``user_id, segment``.
    """
    listed = lists.groupBy("user_id").agg(
        F.array_sort(F.collect_list(F.struct("rank", "item_id", "score"))).alias("listed")
    )
    weighted = pairs.where("weight != 0").join(event_types, on=["user_id", "item_id"], how="left")
    event = F.struct("item_id", "weight", "event_type", code(F.col("item_id")).alias("code"))
    histories = weighted.groupBy("user_id").agg(F.array_sort(F.collect_list(event)).alias("history"))
    users = listed.join(histories, on="user_id", how="left")
    for name, column, frame in (("own_text", "embedding", own_texts), ("segment", "segment", segments)):
        if frame is None:
            users = users.withColumn(name, F.lit(None).cast("array<double>"))
        else:
            vectors = frame.select("user_id", F.col(column).cast("array<double>").alias(name))
            users = users.join(vectors, on="user_id", how="left")
    return users.select("user_id", "listed", "history", "own_text", "segment")


def newest_event_types(events: DataFrame) -> DataFrame:
    """``user_id, item_id, event_type``: the type of each pair's newest event."""
    newest = events.groupBy("user_id", "item_id").agg(F.max(F.struct("timestamp", "event_type")).alias("newest"))
    return newest.select("user_id", "item_id", F.col("newest.event_type").alias("event_type"))


def titled_items(rows: DataFrame, items: DataFrame | None) -> DataFrame:
    """``rows`` (``item_id`` and the columns of an item block) with ``title`` and ``boost``, null where unknown."""
    if items is None:
        return rows.withColumns({"title": F.lit(None).cast("string"), "boost": F.lit(None).cast("float")})
    return rows.join(items.select("item_id", "title", "boost"), on="item_id", how="left")


def weighted_titles(weights: DataFrame, items: DataFrame | None, pairs: DataFrame) -> DataFrame:
    """``weighted_items``, and all other items of ``items`` (or else ``pairs``) without weights, for histories."""
    ids = (pairs if items is None else items).select("item_id").distinct()
    both = weights.join(ids, on="item_id", how="full")
    empty = {
        "neighbors": F.coalesce("neighbors", F.array().cast("array<bigint>")),
        "weights": F.coalesce("weights", F.array().cast("array<float>")),
        "embedding": F.array(F.lit(0.0).cast("float")),
    }
    return titled_items(both.withColumns(empty), items)
