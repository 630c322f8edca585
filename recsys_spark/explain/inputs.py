"""What reasons are computed from: a row per user with its list and history, and a row per item with its title."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.events.codes import code

_OWN = ("own_text", "segment")


def explanation_inputs(
    lists: DataFrame,
    pairs: DataFrame,
    kinds: DataFrame,
    own_texts: DataFrame | None = None,
    segments: DataFrame | None = None,
) -> DataFrame:
    """``user_id, listed, history, own_text, segment``: what the reasons of a user's list are made of, a row per user.

    Args:
        lists: ``user_id, item_id, score, rank``.
        pairs: ``user_id, item_id, weight``, each pair once: what the scores are sums over.
        kinds: ``user_id, item_id, event_type``, each pair once: how a sentence names the event.
        own_texts: ``user_id, embedding``.
        segments: ``user_id, segment``.
    """
    listed = lists.groupBy("user_id").agg(
        F.array_sort(F.collect_list(F.struct("rank", "item_id", "score"))).alias("listed")
    )
    known = pairs.where("weight != 0").join(kinds, on=["user_id", "item_id"], how="left")
    event = F.struct("item_id", "weight", "event_type", code(F.col("item_id")).alias("code"))
    histories = known.groupBy("user_id").agg(F.array_sort(F.collect_list(event)).alias("history"))
    users = listed.join(histories, on="user_id", how="left")
    for name, column, frame in (("own_text", "embedding", own_texts), ("segment", "segment", segments)):
        if frame is None:
            users = users.withColumn(name, F.lit(None).cast("array<double>"))
        else:
            own = frame.select("user_id", F.col(column).cast("array<double>").alias(name))
            users = users.join(own, on="user_id", how="left")
    return users.select("user_id", "listed", "history", *_OWN)


def event_kinds(events: DataFrame) -> DataFrame:
    """``user_id, item_id, event_type`` of each pair's newest event."""
    newest = events.groupBy("user_id", "item_id").agg(F.max(F.struct("timestamp", "event_type")).alias("newest"))
    return newest.select("user_id", "item_id", F.col("newest.event_type").alias("event_type"))


def titled_items(rows: DataFrame, items: DataFrame | None) -> DataFrame:
    """``rows`` (item_id and what a block holds) with ``title`` and ``boost``, null where nothing is known."""
    if items is None:
        return rows.withColumns({"title": F.lit(None).cast("string"), "boost": F.lit(None).cast("float")})
    return rows.join(items.select("item_id", "title", "boost"), on="item_id", how="left")


def weighted_titles(weights: DataFrame, items: DataFrame | None, pairs: DataFrame) -> DataFrame:
    """``weighted_items`` and, without weights, all other items of ``items`` or ``pairs``: a history may hold them."""
    ids = (pairs if items is None else items).select("item_id").distinct()
    both = weights.join(ids, on="item_id", how="full")
    empty = {
        "neighbors": F.coalesce("neighbors", F.array().cast("array<bigint>")),
        "weights": F.coalesce("weights", F.array().cast("array<float>")),
        "embedding": F.array(F.lit(0.0).cast("float")),
    }
    return titled_items(both.withColumns(empty), items)
