"""Compare two versions of a table. Pure DataFrame functions.

Rows are compared by 64-bit digests, so that comparisons shuffle no vectors or texts.
"""

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.tables.digest import row_digest
from recsys_spark.tables.run_date import events_before

KINDS = ("added", "changed", "removed")


def change_kinds(old: DataFrame, new: DataFrame, key: str) -> DataFrame:
    """``key, kind``: rows that were added, removed, or changed in any of the columns of ``new``.

    ``key`` is unique in each version.
    """
    names = [name for name in new.columns if name != key]
    was = old.select(key, row_digest(names).alias("was"))
    now = new.select(key, row_digest(names).alias("now"))
    changes = was.join(now, on=key, how="full").where(~F.col("was").eqNullSafe(F.col("now")))
    kind = F.when(F.col("was").isNull(), "added").when(F.col("now").isNull(), "removed").otherwise("changed")
    return changes.select(key, kind.alias("kind"))


def row_kinds(old: DataFrame, new: DataFrame) -> DataFrame:
    """``kind`` of whole rows that are in one version only; a changed row is a removed and an added one.

    Rows are distinct in each version. Only digests are shuffled. The join sorts them, since a sort spills to disk and
    the hash map of a hash join cannot.
    """
    was, now = (
        rows.select(row_digest(new.columns).alias("row"), F.lit(True).alias(version))
        for rows, version in ((old, "was"), (new, "now"))
    )
    joined = was.join(now.hint("merge"), on="row", how="full")
    return joined.where(F.col("was").isNull() | F.col("now").isNull()).select(
        F.when(F.col("was").isNull(), "added").otherwise("removed").alias("kind")
    )


def changed_keys(old: DataFrame, new: DataFrame, key: str) -> DataFrame:
    """``key`` of the rows that were added, removed, or changed in any of the columns of ``new``."""
    return change_kinds(old, new, key).select(key)


def changed_groups(old: DataFrame, new: DataFrame, key: str) -> DataFrame:
    """``key`` of the groups of rows that differ, in any order of rows. Rows are distinct in each version."""
    return changed_keys(_grouped(old, key), _grouped(new, key), key)


def users_of_days(events: DataFrame, date_a: date, date_b: date) -> DataFrame:
    """``user_id`` of users with events that only the later one of two run dates may use."""
    first, last = sorted((date_a, date_b))
    between = events_before(events, last).where(F.col("timestamp") >= F.lit(str(first)).cast("timestamp"))
    return between.select("user_id").distinct()


def _grouped(rows: DataFrame, key: str) -> DataFrame:
    digests = rows.select(key, row_digest([name for name in rows.columns if name != key]).alias("digest"))
    return digests.groupBy(key).agg(F.bit_xor("digest").alias("digest"), F.count("*").alias("rows"))
