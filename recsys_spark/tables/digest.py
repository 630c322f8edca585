"""A digest of a row that does not depend on the order of rows."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import Column

DIGEST = "_row_digest"


def row_digest(columns: list[str]) -> "Column":
    """64 bits of a row. The digests of all rows, added up, tell two tables apart whatever the order of their rows."""
    from pyspark.sql import functions as F

    return F.xxhash64(*(part for name in columns for part in (F.col(name), F.col(name).isNull())))
