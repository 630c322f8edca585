"""Digests of rows, whose sum does not depend on the order of rows."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import Column

DIGEST = "_row_digest"


def row_digest(columns: list[str]) -> "Column":
    """The 64-bit digest of a row. The sum of all digests identifies a table's rows, independent of their order."""
    from pyspark.sql import functions as F

    return F.xxhash64(*(part for name in columns for part in (F.col(name), F.col(name).isNull())))
