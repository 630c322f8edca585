"""People and items that must not come back. Pure DataFrame functions.

A tombstone holds the SHA-256 of an id, never the id: the list of the forgotten must not name them.
"""

import hashlib
from collections.abc import Iterable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

KINDS = {"user": "user_id", "item": "item_id"}


def id_hash(kind: str, name: str) -> str:
    """What stands for an id of a ``kind``, user or item."""
    return hashlib.sha256(f"{kind}:{name}".encode()).hexdigest()


def without_forgotten(rows: DataFrame, forgotten: DataFrame) -> DataFrame:
    """``rows`` without those of forgotten users and items. ``forgotten``: ``kind, id_hash``."""
    for kind, column in KINDS.items():
        if column in rows.columns:
            gone = F.broadcast(forgotten.where(F.col("kind") == kind).select("id_hash"))
            own = F.sha2(F.concat(F.lit(f"{kind}:"), F.col(column)), 256)
            rows = rows.join(gone, on=own == F.col("id_hash"), how="left_anti")
    return rows


def of_ids(columns: Iterable[str], ids: dict[str, list[str]]) -> Column:
    """Whether a row is one of these users' or items': by its id columns, or, where it holds a raw row as JSON, by a
    value in there."""
    found, columns = F.lit(False), set(columns)
    for kind, names in ids.items():
        column = KINDS[kind]
        for place in {column, "neighbor_id"} & columns if kind == "item" else {column} & columns:
            found = found | F.coalesce(F.col(place).isin(names), F.lit(False))
        if "row" in columns:
            for name in names:
                found = found | F.coalesce(F.col("row").contains(f'"{name}"'), F.lit(False))
    return found
