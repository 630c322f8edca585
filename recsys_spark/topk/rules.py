"""What the rules of a list want to know of items and users. Pure DataFrame functions."""

from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


def items_with_rules(vectors: DataFrame, items: DataFrame, match_on: str | None, quota_on: str | None) -> DataFrame:
    """``vectors`` (item_id and what else a block holds) with the rule columns of the item blocks."""
    group, key = _value(quota_on), _value(match_on)
    about = items.select(
        "item_id",
        key.alias("match_key"),
        F.when(group.isNotNull(), F.xxhash64(group).bitwiseAND((1 << 62) - 1)).alias("quota_group"),
        "boost",
        "available_from",
        "available_until",
    )
    if not match_on:
        about = about.drop("match_key")  # blocks are sorted by a key that is there
    return vectors.drop("model").join(about, on="item_id", how="left")


def _value(name: str | None) -> Column:
    """What a rule compares of an item; of a category path its last name."""
    if name is None:
        return F.lit(None).cast("string")
    return F.try_element_at("category", F.lit(-1)) if name == "category" else F.col(name)


def item_eligibility(items: DataFrame, match_on: str | None, run_date: date) -> DataFrame:
    """``item_id`` and what decides, beside its vector, where an item is listed on ``run_date``."""
    day = F.lit(run_date)
    begun = F.col("available_from").isNull() | (F.col("available_from") <= day)
    there = begun & (F.col("available_until").isNull() | (F.col("available_until") >= day))
    return items.select("item_id", "boost", there.alias("available"), *([match_on] if match_on else []))


def profiles_with_keys(profiles: DataFrame, users: DataFrame, match_on: str) -> DataFrame:
    """Profiles with the value that their items must equal."""
    keys = users.select("user_id", F.col(match_on).alias("match_key"))
    return profiles.join(keys, on="user_id", how="left")


def items_as_users(vectors: DataFrame) -> DataFrame:
    """Items in the place of users, who must not be listed to themselves; with their ``match_key``, if they have one."""
    keys = [name for name in ("match_key",) if name in vectors.columns]
    return vectors.select(F.col("item_id").alias("user_id"), "embedding", F.array("item_id").alias("seen"), *keys)


def denied(seen: DataFrame, rules: DataFrame) -> DataFrame:
    """``user_id, item_id`` that must not be listed: seen before, or denied."""
    return seen.unionByName(rules.where(F.col("rule") == "deny").select("user_id", "item_id"))


def allowed(rules: DataFrame) -> DataFrame:
    """``user_id, item_id``: a user named here is listed nothing else."""
    return rules.where(F.col("rule") == "allow").select("user_id", "item_id")
