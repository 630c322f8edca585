"""Accounts that act together: on the same items at the same time. Pure DataFrame functions."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

SLOT_SECONDS = 1800
"""Length of the slots in which events are together."""


def lockstep_figures(events: DataFrame) -> DataFrame:
    """``user_id, lockstep``: the mean number of other accounts on the item in the half hour of an event of the user.

    Honest users meet by chance, on popular items. Accounts that one program drives meet on everything: lockstep, Beutel
    et al., "CopyCatch" (WWW 2013). Where events have no times of day all users meet, and nobody stands out.

    Args:
        events: ``user_id, item_id, timestamp``.
    """
    slot = F.floor(F.unix_seconds("timestamp") / SLOT_SECONDS).alias("slot")
    others = F.count("*").over(Window.partitionBy("item_id", "slot")) - 1
    cells = events.select("user_id", "item_id", slot).distinct().withColumn("others", others)
    return cells.groupBy("user_id").agg((F.sum("others") / F.count("*")).alias("lockstep"))
