"""Accounts that act together: on the same items at the same time. Pure DataFrame functions."""

from pyspark.sql import DataFrame
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
    cells = events.select("user_id", "item_id", slot).distinct()
    sizes = cells.groupBy("item_id", "slot").agg((F.count("*") - 1).alias("others"))
    rows = cells.join(sizes, on=["item_id", "slot"])
    return rows.groupBy("user_id").agg((F.sum("others") / F.count("*")).alias("lockstep"))
