"""What the rules of a list want to know of items and users. Pure DataFrame functions."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def items_with_rules(vectors: DataFrame, items: DataFrame, match_on: str | None, quota_on: str | None) -> DataFrame:
    """``item_id, embedding`` and the rule columns of the item blocks.

    Items are broadcast only when they are small: a join of two tables by ``item_id``.
    """
    group = {"brand": F.col("brand"), "category": F.element_at("category", -1), None: F.lit(None).cast("string")}[
        quota_on
    ]
    key = F.col(match_on) if match_on else F.lit(None).cast("string")
    about = items.select(
        "item_id",
        key.alias("match_key"),
        F.when(group.isNotNull(), F.xxhash64(group).bitwiseAND((1 << 62) - 1)).alias("quota_group"),
        "boost",
        "available_from",
        "available_until",
    )
    joined = vectors.select("item_id", "embedding").join(about, on="item_id", how="left")
    return joined.select("item_id", "embedding", *(c for c in about.columns if c not in ("item_id", *unused(match_on))))


def unused(match_on: str | None) -> tuple[str, ...]:
    """Columns that would only make the blocks be sorted for nothing."""
    return () if match_on else ("match_key",)


def profiles_with_keys(profiles: DataFrame, users: DataFrame, match_on: str) -> DataFrame:
    """Profiles with the value that their items must equal."""
    keys = users.select("user_id", F.col(match_on).alias("match_key"))
    return profiles.join(keys, on="user_id", how="left")


def items_as_users(vectors: DataFrame, tasks: int) -> DataFrame:
    """Items in the place of users, who must not be listed to themselves: what ``list_rows`` takes."""
    nothing = F.lit(None)
    rows = vectors.select(
        F.col("item_id").alias("user_id"),
        "embedding",
        F.array("item_id").alias("seen"),
        nothing.cast("array<string>").alias("allowed"),
        nothing.cast("string").alias("match_key"),
        nothing.cast("int").alias("stratum"),
    )
    return rows.repartition(tasks, "user_id")


def denied(seen: DataFrame, rules: DataFrame) -> DataFrame:
    """``user_id, item_id`` that must not be listed: seen before, or denied."""
    return seen.unionByName(rules.where(F.col("rule") == "deny").select("user_id", "item_id"))


def allowed(rules: DataFrame) -> DataFrame:
    """``user_id, item_id``: a user named here is listed nothing else."""
    return rules.where(F.col("rule") == "allow").select("user_id", "item_id")
