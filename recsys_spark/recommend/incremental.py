"""A new Top-K from the last one: only what changed is multiplied. Pure DataFrame functions.

An item that did not change can leave a list only where its user changed, where a better item came, or where it is no
longer eligible. So changed users meet all items, the other users meet the changed items, and a user whose stored list
holds a changed or withdrawn item is treated as changed. The rows equal those of the full join.
"""

from functools import reduce

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F


def users_to_recompute(stored: DataFrame, changed_users: DataFrame, changed_items: DataFrame) -> DataFrame:
    """``user_id``: users who changed, and users whose stored list holds an item that changed or vanished.

    Args:
        stored: ``user_id, item_id``, the lists of the last run.
        changed_users: ``user_id``: another profile, seen items, key, allow or deny rules.
        changed_items: ``item_id``: another vector, boost, key or availability; new and vanished ones too.
    """
    losing = stored.join(changed_items, on="item_id", how="left_semi").select("user_id")
    return changed_users.select("user_id").unionByName(losing).distinct()


def with_floors(profiles: DataFrame, stored: DataFrame, redo: DataFrame, k: int) -> DataFrame:
    """The profiles of users whose lists stand, with ``floor``: the score of place k, that a newcomer must reach.

    A list with places left has none. ``stored``: ``user_id, score, rank`` of a join with the same k and rules.
    """
    floors = stored.where(F.col("rank") == k).select("user_id", F.col("score").alias("floor"))
    return profiles.join(redo, on="user_id", how="left_anti").join(floors, on="user_id", how="left")


def merged_lists(stored: DataFrame, again: DataFrame | None, newcomers: DataFrame | None, k: int) -> DataFrame | None:
    """``user_id, item_id, score, rank``: of the lists of the full join those that may differ from the stored ones.

    Args:
        stored: the lists of the last run, with the same columns, k and rules.
        again: the lists of the users to redo, joined with all items; None where there are no such users.
        newcomers: the lists of the others joined with the changed items alone; few rows where ``with_floors`` gave
            each a floor. Only lists that have one are ranked anew. None where no item changed.
    """
    names, ranked = ("user_id", "item_id", "score", "rank"), None
    if newcomers is not None:
        touched = newcomers.select("user_id").distinct()
        both = stored.select(*names).join(touched, on="user_id", how="left_semi").unionByName(newcomers.select(*names))
        order = Window.partitionBy("user_id").orderBy(F.desc("score"), "item_id")
        ranked = both.withColumn("rank", F.row_number().over(order)).where(F.col("rank") <= k)
    parts = [rows.select(*names) for rows in (again, ranked) if rows is not None]
    return reduce(DataFrame.unionByName, parts) if parts else None


def users_changed(redo: DataFrame, newcomers: DataFrame | None) -> DataFrame:
    """``user_id`` of the users whose lists are in ``merged_lists``, or would be if they were not empty."""
    return redo if newcomers is None else redo.unionByName(newcomers.select("user_id")).distinct()
