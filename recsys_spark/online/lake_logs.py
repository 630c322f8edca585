"""Logs of impressions, teams and arms from the tables of a lake. Pure DataFrame functions."""

from collections.abc import Mapping
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.events.relevance import is_positive_event
from recsys_spark.online.validation import ARMS

_SECONDS = 86_400

_DIGITS = 13
"""Hexadecimal digits of a hash that make a share: 52 bits, which a double holds exactly."""


def moment_of(run_date: date, days: float) -> Column:
    """The time ``days`` after (before, if negative) 00:00 UTC of ``run_date``."""
    midnight = F.lit(str(run_date)).cast("timestamp").cast("double")
    return (midnight + F.lit(days * _SECONDS)).cast("timestamp")


def positive_events(
    events: DataFrame, run_date: date, since: float, until: float, by_type: Mapping[str, float], min_rating: float
) -> DataFrame:
    """The events that speak for their item, from ``since`` until before ``until``, both in days after ``run_date``."""
    time = F.col("timestamp")
    within = (time >= moment_of(run_date, since)) & (time < moment_of(run_date, until))
    return events.where(within & is_positive_event(by_type, min_rating))


def explored_log(exposures: DataFrame, target: DataFrame, earned: DataFrame) -> DataFrame:
    """``user_id, rank, propensity, target_propensity, reward`` of the impressions at which the target has an item.

    Args:
        exposures: ``user_id, item_id, rank, propensity``.
        target: ``user_id, item_id, rank``: lists that the target policy shows with probability 1.
        earned: events; an item with one is a reward of 1.
    """
    lists = target.select("user_id", "rank", F.col("item_id").alias("target_item"))
    return _with_reward(exposures.join(lists, on=["user_id", "rank"], how="inner"), earned).select(
        "user_id",
        "rank",
        "propensity",
        (F.col("item_id") == F.col("target_item")).cast("double").alias("target_propensity"),
        "reward",
    )


def team_rewards(interleaved: DataFrame, earned: DataFrame) -> DataFrame:
    """``user_id, team, reward`` of the items of interleaved lists; an item with an event is a reward of 1."""
    return _with_reward(interleaved, earned).select("user_id", "team", "reward")


def assigned_arm(salt: str, treatment_share: float) -> Column:
    """``control`` or ``treatment`` of ``user_id``: stable, and independent for every salt.

    The first 13 hexadecimal digits of the SHA-256 of "salt:user_id", divided by 16^13, are below ``treatment_share``
    for the treatment. Any system can compute it.
    """
    digest = F.sha2(F.concat(F.lit(f"{salt}:"), F.col("user_id")), 256)
    share = F.conv(F.substring(digest, 1, _DIGITS), 16, 10).cast("bigint") / F.lit(16.0**_DIGITS)
    return F.when(share < treatment_share, ARMS[1]).otherwise(ARMS[0])


def counted_events(users: DataFrame, earned: DataFrame, before: DataFrame) -> DataFrame:
    """``user_id, metric, before``: the number of events of each user in ``earned`` and in ``before``."""
    for name, events in (("metric", earned), ("before", before)):
        counts = events.groupBy("user_id").agg(F.count("*").cast("double").alias(name))
        users = users.join(counts, on="user_id", how="left")
    return users.select("user_id", *(F.coalesce(name, F.lit(0.0)).alias(name) for name in ("metric", "before")))


def arm_moments(outcomes: DataFrame) -> DataFrame:
    """``arm, users, mean, variance, mean_before, variance_before, covariance``: the fields of ``Arm``."""
    return outcomes.groupBy("arm").agg(
        F.count("*").alias("users"),
        F.avg("metric").alias("mean"),
        F.var_samp("metric").alias("variance"),
        F.avg("before").alias("mean_before"),
        F.var_samp("before").alias("variance_before"),
        F.covar_samp("metric", "before").alias("covariance"),
    )


def team_preferences(rewards: DataFrame) -> DataFrame:
    """One row, ``first, second, ties, users``: users with more rewards for team a, for team b, and as many for both.

    ``ties`` are users with rewards; ``users`` also counts those without.
    """
    by_team = [F.sum(F.when(F.col("team") == team, F.col("reward")).otherwise(0.0)).alias(team) for team in ("a", "b")]
    users = rewards.groupBy("user_id").agg(*by_team, F.max(F.abs("reward")).alias("most"))
    return users.agg(
        F.count_if(F.col("a") > F.col("b")).alias("first"),
        F.count_if(F.col("b") > F.col("a")).alias("second"),
        F.count_if((F.col("a") == F.col("b")) & (F.col("most") > 0)).alias("ties"),
        F.count("*").alias("users"),
    )


def _with_reward(shown: DataFrame, earned: DataFrame) -> DataFrame:
    pairs = earned.select("user_id", "item_id", F.lit(1.0).alias("reward")).distinct()
    joined = shown.join(pairs, on=["user_id", "item_id"], how="left")
    return joined.withColumn("reward", F.coalesce("reward", F.lit(0.0)))
