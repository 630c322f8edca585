"""Incremental Top-K: join only what changed since the last lists. Pure DataFrame functions.

An unchanged item leaves a list only if its user changed, a better item was added, or it is no longer eligible. So
changed users are joined with all items, and the other users with the changed items. A user whose stored list holds a
changed or withdrawn item counts as changed. The rows equal those of the full join.
"""

from functools import reduce

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F


def users_to_recompute(stored: DataFrame, changed_users: DataFrame, changed_items: DataFrame) -> DataFrame:
    """``user_id``: users who changed, and users whose stored list holds an item that changed or was removed.

    Args:
        stored: ``user_id, item_id``, the lists of the last run.
        changed_users: ``user_id`` of users with another profile, other seen items, another key or other rules.
        changed_items: ``item_id`` of items with another vector, boost, key or availability, and of new and removed
            items.
    """
    affected = stored.join(changed_items, on="item_id", how="left_semi").select("user_id")
    return changed_users.select("user_id").unionByName(affected).distinct()


def with_floors(profiles: DataFrame, stored: DataFrame, recomputed: DataFrame, k: int) -> DataFrame:
    """The profiles of the users who are not ``recomputed``, with ``floor``: the score of rank k, which a new candidate
    must reach. It is null for a list of fewer than k items.

    ``stored``: ``user_id, score, rank`` of a join with the same k and rules.
    """
    floors = stored.where(F.col("rank") == k).select("user_id", F.col("score").alias("floor"))
    return profiles.join(recomputed, on="user_id", how="left_anti").join(floors, on="user_id", how="left")


def merged_lists(
    stored: DataFrame, recomputed_lists: DataFrame | None, new_candidates: DataFrame | None, k: int
) -> DataFrame | None:
    """``user_id, item_id, score, rank``: the lists of the full join that may differ from the stored ones.

    Args:
        stored: the lists of the last run, with the same columns, k and rules.
        recomputed_lists: the lists of the recomputed users, joined with all items; None if there are no such users.
        new_candidates: the lists of the other users, joined with the changed items only; few rows if ``with_floors``
            gave each user a floor. Only lists with new candidates are ranked again. None if no item changed.
    """
    names, ranked = ("user_id", "item_id", "score", "rank"), None
    if new_candidates is not None:
        users = new_candidates.select("user_id").distinct()
        candidates = stored.select(*names).join(users, on="user_id", how="left_semi")
        candidates = candidates.unionByName(new_candidates.select(*names))
        order = Window.partitionBy("user_id").orderBy(F.desc("score"), "item_id")
        ranked = candidates.withColumn("rank", F.row_number().over(order)).where(F.col("rank") <= k)
    parts = [rows.select(*names) for rows in (recomputed_lists, ranked) if rows is not None]
    return reduce(DataFrame.unionByName, parts) if parts else None


def users_changed(recomputed: DataFrame, new_candidates: DataFrame | None) -> DataFrame:
    """``user_id`` of the users whose lists are in ``merged_lists``, or would be if they were not empty."""
    if new_candidates is None:
        return recomputed
    return recomputed.unionByName(new_candidates.select("user_id")).distinct()
