"""Figures that the users who praise the same item have in common. Pure DataFrame functions.

One odd account proves little. Accounts that are odd in the same way and praise the same item are a group: the sum of
their z-scores grows with their number, that of unrelated users with its root. The user's own z-score is left out, so
that nobody speaks for himself.
"""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.risk.evidence import STEPS
from recsys_spark.risk.kernels.scales import NO_FIGURE

PRIOR = 10
"""Users without a deviation that are added to those of each item, so that few users are no group."""

_BOUND = 3 * STEPS
"""One user counts for at most three deviations."""


def praised_pairs(events: DataFrame, positive: Column) -> DataFrame:
    """``user_id, item_id`` of the events that praise an item, each once."""
    return events.where(positive).select("user_id", "item_id").distinct()


def with_deviations(pairs: DataFrame, users: DataFrame, places: Sequence[int]) -> DataFrame:
    """``user_id, item_id, z0, z1 …``: pairs with the bounded z-scores (bigint) at ``places`` of the user's."""
    values = []
    for number, place in enumerate(places):
        z = F.get("z", F.lit(place))
        bounded = F.greatest(F.lit(-_BOUND), F.least(F.lit(_BOUND), z))
        values.append(F.when(z == NO_FIGURE, 0).otherwise(bounded).cast("bigint").alias(f"z{number}"))
    return pairs.join(users.select("user_id", *values), on="user_id")


def item_sums(rows: DataFrame, count: int) -> DataFrame:
    """``item_id, users, sum0, sum1 …`` of the pairs of each item."""
    sums = [F.sum(f"z{number}").alias(f"sum{number}") for number in range(count)]
    return rows.groupBy("item_id").agg(F.count("*").alias("users"), *sums)


def item_strengths(sums: DataFrame, count: int) -> DataFrame:
    """``item_id, shared`` (array<int>): Σ z / √(n + PRIOR) for each figure, in steps."""
    root = F.sqrt(F.col("users") + F.lit(float(PRIOR)))
    return sums.select("item_id", F.array(*(_steps(F.col(f"sum{n}") / root) for n in range(count))).alias("shared"))


def user_strengths(rows: DataFrame, sums: DataFrame, count: int) -> DataFrame:
    """``user_id, shared`` (array<int>): for each figure the greatest Σ z / √(n + PRIOR) of the other users over the
    user's praised items, in steps."""
    root = F.sqrt(F.col("users") - 1 + F.lit(float(PRIOR)))
    best = [F.max(_steps((F.col(f"sum{n}") - F.col(f"z{n}")) / root)).alias(f"best{n}") for n in range(count)]
    users = rows.join(sums, on="item_id").groupBy("user_id").agg(*best)
    return users.select("user_id", F.array(*(f"best{n}" for n in range(count))).alias("shared"))


def _steps(column: Column) -> Column:
    return F.round(column).cast("int")
