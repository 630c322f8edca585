"""64-bit codes of ids and words."""

from pyspark.sql import Column
from pyspark.sql import functions as F


def code(column: Column) -> Column:
    """A 64-bit code of an id."""
    return F.xxhash64(column)
