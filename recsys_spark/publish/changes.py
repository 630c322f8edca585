"""What differs between two versions of a table. Pure DataFrame functions.

Rows are compared by 64 bit digests, so that a vector or a text never crosses a shuffle for the sake of a comparison.
"""

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.tables.digest import row_digest
from recsys_spark.tables.run_date import events_before

KINDS = ("added", "changed", "removed")


def change_kinds(old: DataFrame, new: DataFrame, key: str) -> DataFrame:
    """``key, kind``: rows that were added, removed, or changed in any of the columns of ``new``.

    ``key`` is unique on either side.
    """
    names = [name for name in new.columns if name != key]
    was = old.select(key, row_digest(names).alias("was"))
    now = new.select(key, row_digest(names).alias("now"))
    both = was.join(now, on=key, how="full").where(~F.col("was").eqNullSafe(F.col("now")))
    kind = F.when(F.col("was").isNull(), "added").when(F.col("now").isNull(), "removed").otherwise("changed")
    return both.select(key, kind.alias("kind"))


def row_kinds(old: DataFrame, new: DataFrame) -> DataFrame:
    """``kind`` of whole rows that are on one side alone; a changed row is a removed and an added one. Rows are distinct
    on either side. Only digests are shuffled, and sorted: a sort spills to disk where a hash map of one side cannot."""
    was, now = (
        rows.select(row_digest(new.columns).alias("row"), F.lit(True).alias(side))
        for rows, side in ((old, "was"), (new, "now"))
    )
    both = was.join(now.hint("merge"), on="row", how="full")
    return both.where(F.col("was").isNull() | F.col("now").isNull()).select(
        F.when(F.col("was").isNull(), "added").otherwise("removed").alias("kind")
    )


def changed_keys(old: DataFrame, new: DataFrame, key: str) -> DataFrame:
    """``key`` of the rows that appeared, vanished, or differ in any of the columns of ``new``."""
    return change_kinds(old, new, key).select(key)


def changed_groups(old: DataFrame, new: DataFrame, key: str) -> DataFrame:
    """``key`` of the groups of rows that differ, whatever the order of their rows. Rows are distinct on either side."""
    return changed_keys(_grouped(old, key), _grouped(new, key), key)


def users_of_days(events: DataFrame, one: date, other: date) -> DataFrame:
    """``user_id`` of those with events between two run dates: the later one knows them, the earlier one does not."""
    first, last = sorted((one, other))
    late = events_before(events, last).where(F.col("timestamp") >= F.lit(str(first)).cast("timestamp"))
    return late.select("user_id").distinct()


def _grouped(rows: DataFrame, key: str) -> DataFrame:
    digests = rows.select(key, row_digest([name for name in rows.columns if name != key]).alias("digest"))
    return digests.groupBy(key).agg(F.bit_xor("digest").alias("digest"), F.count("*").alias("rows"))
