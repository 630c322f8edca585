"""A new Top-K from the last one: only what changed is multiplied. Pure DataFrame functions.

An item that did not change can leave a list only where its user changed, where a better item came, or where it is no
longer eligible. So changed users meet all items, the other users meet the changed items, and a user whose stored list
holds a changed or withdrawn item is treated as changed. The rows equal those of the full join.
"""

from functools import partial

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.errors import UsageError
from recsys_spark.item_blocks import ItemBlocks
from recsys_spark.lists import ListRules
from recsys_spark.recommend import top_k_join


def changed_keys(old: DataFrame, new: DataFrame, key: str) -> DataFrame:
    """``key`` of the rows that appeared, vanished, or differ in any of the columns of ``new``."""
    names = [name for name in new.columns if name != key]
    before = old.select(key, F.struct(*names).alias("before"))
    after = new.select(key, F.struct(*names).alias("after"))
    both = before.join(after, on=key, how="full")
    return both.where(~F.col("before").eqNullSafe(F.col("after"))).select(key)


def users_to_redo(stored: DataFrame, changed_users: DataFrame, changed_items: DataFrame) -> DataFrame:
    """``user_id``: users who changed, and users whose stored list holds an item that changed or vanished.

    Args:
        stored: ``user_id, item_id``, the lists of the last run.
        changed_users: ``user_id``: another profile, seen items, key, allow or deny rules.
        changed_items: ``item_id``: another vector, boost, key or availability; new and vanished ones too.
    """
    losing = stored.join(changed_items, on="item_id", how="left_semi").select("user_id")
    return changed_users.select("user_id").unionByName(losing).distinct()


def refreshed_lists(
    stored: DataFrame,
    profiles: DataFrame,
    redo: DataFrame,
    items: ItemBlocks,
    changed_items: ItemBlocks,
    k: int,
    *,
    seen: DataFrame | None = None,
    allowed: DataFrame | None = None,
    rules: ListRules = ListRules(),  # noqa: B008  (frozen)
    user_block_rows: int = 16_384,
    tasks: int | None = None,
) -> DataFrame:
    """The lists of the full join of ``profiles`` and ``items``, made from ``stored``.

    Args:
        stored: ``user_id, item_id, score`` of a join with the same k and rules.
        profiles, items, k, seen, allowed, rules, user_block_rows, tasks: as for ``top_k_join``.
        redo: from ``users_to_redo``.
        changed_items: the blocks of the items that changed or are new, alone.

    Returns:
        ``user_id, item_id, score, rank``.

    Raises:
        UsageError: the rules have a quota, which a stored list does not tell enough for, or are approximate.
    """
    if rules.quota or rules.nprobe:
        raise UsageError("lists with a quota, and approximate ones, are made by the full join")
    join = partial(
        top_k_join, k=k, seen=seen, allowed=allowed, rules=rules, user_block_rows=user_block_rows, tasks=tasks
    )
    again = join(profiles.join(redo, on="user_id", how="left_semi"), items)
    others = profiles.join(redo, on="user_id", how="left_anti")
    fresh = join(others, changed_items).select("user_id", "item_id", "score")
    kept = stored.join(others, on="user_id", how="left_semi").select("user_id", "item_id", "score")
    order = Window.partitionBy("user_id").orderBy(F.desc("score"), "item_id")
    ranked = kept.unionByName(fresh).withColumn("rank", F.row_number().over(order)).where(F.col("rank") <= k)
    return again.unionByName(ranked).select("user_id", "item_id", "score", "rank")
