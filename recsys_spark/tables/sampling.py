"""Samples that do not depend on partitions or on the order of rows."""

from pyspark.sql import Column
from pyspark.sql import functions as F


def hash_sample(column: str, share: float, *, buckets: int = 1 << 20) -> Column:
    """Whether a row belongs to a sample of about ``share`` of the values of ``column``, drawn by their xxhash64.

    Samples of one column are nested: a larger share holds every value of a smaller one.
    """
    return F.pmod(F.xxhash64(column), F.lit(buckets)) < int(share * buckets)
