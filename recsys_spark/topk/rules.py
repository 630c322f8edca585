"""Columns that list rules read, from the tables items, users and user_rules. Pure DataFrame functions."""

from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


def items_with_rules(vectors: DataFrame, items: DataFrame, match_on: str | None, quota_on: str | None) -> DataFrame:
    """Add the rule columns of item blocks to ``vectors`` (item_id, and further columns of a block)."""
    group, key = _value(quota_on), _value(match_on)
    rules = items.select(
        "item_id",
        key.alias("match_key"),
        F.when(group.isNotNull(), F.xxhash64(group).bitwiseAND((1 << 62) - 1)).alias("quota_group"),
        "boost",
        "available_from",
        "available_until",
    )
    if not match_on:
        rules = rules.drop("match_key")  # blocks would be sorted by it
    return vectors.drop("model").join(rules, on="item_id", how="left")


def _value(name: str | None) -> Column:
    """Value of an item that a rule compares: the column, or the last name of a category path."""
    if name is None:
        return F.lit(None).cast("string")
    return F.try_element_at("category", F.lit(-1)) if name == "category" else F.col(name)


def item_eligibility(items: DataFrame, match_on: str | None, run_date: date) -> DataFrame:
    """``item_id, boost, available`` and ``match_on``: all that lists of ``run_date`` depend on besides item vectors."""
    available = is_available(run_date).alias("available")
    return items.select("item_id", "boost", available, *([match_on] if match_on else []))


def is_available(day: date) -> Column:
    """Whether an item is available on a day."""
    started = F.col("available_from").isNull() | (F.col("available_from") <= F.lit(day))
    return started & (F.col("available_until").isNull() | (F.col("available_until") >= F.lit(day)))


def profiles_with_keys(profiles: DataFrame, users: DataFrame, match_on: str) -> DataFrame:
    """Add ``match_key`` to profiles: the value that items must equal."""
    keys = users.select("user_id", F.col(match_on).alias("match_key"))
    return profiles.join(keys, on="user_id", how="left")


def items_as_users(vectors: DataFrame) -> DataFrame:
    """Items as users of the join, with ``match_key`` if they have one. An item is excluded from its neighbours."""
    keys = [name for name in ("match_key",) if name in vectors.columns]
    return vectors.select(F.col("item_id").alias("user_id"), "embedding", F.array("item_id").alias("seen"), *keys)


def denied(seen: DataFrame, rules: DataFrame) -> DataFrame:
    """``user_id, item_id`` that must not be listed: ``seen`` pairs and pairs with a rule 'deny'."""
    return seen.unionByName(rules.where(F.col("rule") == "deny").select("user_id", "item_id"))


def allowed(rules: DataFrame) -> DataFrame:
    """``user_id, item_id`` with a rule 'allow': these users are listed nothing else."""
    return rules.where(F.col("rule") == "allow").select("user_id", "item_id")
