"""What the events of a user count, by the table ``user_risk``. Pure DataFrame functions."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def distrusted(risk: DataFrame, key: str = "user_id") -> DataFrame:
    """``key, trust`` of the users, or items, whose trust is below 1."""
    return risk.where("trust < 1").select(key, "trust")


def trusted_pairs(pairs: DataFrame, risk: DataFrame) -> DataFrame:
    """``pairs`` of ``weigh_pairs`` with each weight times the trust of its user; users without a row count in full.

    Trust is a power of four, so that the product is exact.
    """
    rows = pairs.join(distrusted(risk), on="user_id", how="left")
    weight = F.col("weight") * F.coalesce("trust", F.lit(1.0))
    return rows.select("user_id", "item_id", weight.alias("weight"), "events", "last_timestamp")
