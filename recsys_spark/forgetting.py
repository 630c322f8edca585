"""People and items that must not come back. Pure DataFrame functions.

A tombstone holds the SHA-256 of an id, never the id: the list of the forgotten must not name them.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

KINDS = {"user": "user_id", "item": "item_id"}
_SPACE = " \t\n\r\f\v"  # what ingest trims off an id


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
    """Whether a row is one of these users' or items': by its id columns, or, where it holds a raw row as JSON, by
    anything in there."""
    found, columns = F.lit(False), set(columns)
    for kind, names in ids.items():
        column = KINDS[kind]
        for place in {column, "neighbor_id"} & columns if kind == "item" else {column} & columns:
            found = found | F.coalesce(F.col(place).isin(names), F.lit(False))
    wanted = {name for names in ids.values() for name in names}
    if "row" in columns and wanted:
        written = [form for name in sorted(wanted) for form in _forms(name)]
        found = found | F.udf(lambda row: row is not None and _is_named(row, wanted, written), "boolean")("row")
    return found


def is_named(row: str, names: Collection[str]) -> bool:
    """Whether a raw row, JSON or what could not be read as such, names one of them: as a value, a number or a key, or
    as a word of a longer text, which a malformed line is."""
    return _is_named(row, names, [form for name in names for form in _forms(name)])


def _forms(name: str) -> set[str]:
    """How an id may be written within a text, which may be JSON itself, or a line of CSV."""
    return {name, json.dumps(name)[1:-1], json.dumps(name, ensure_ascii=False)[1:-1], name.replace('"', '""')}


def _is_named(row: str, names: Collection[str], written: Collection[str]) -> bool:
    leaves = list(_leaves(row))
    if any(leaf.strip(_SPACE) in names for leaf in leaves):
        return True
    found = ((form, leaf) for leaf in leaves for form in written if form in leaf)
    return any(re.search(rf"(?<!\w){re.escape(form)}(?!\w)", leaf) for form, leaf in found)


def _leaves(row: Any) -> Iterator[str]:
    try:
        value = json.loads(row) if isinstance(row, str) else row
    except ValueError:
        value = {"": row}
    if isinstance(value, dict):
        for name, part in value.items():
            yield name
            yield from [part] if isinstance(part, str) else _leaves(part)
    elif isinstance(value, list):
        for part in value:
            yield from [part] if isinstance(part, str) else _leaves(part)
    else:
        yield str(value)


def explained_by(columns: Iterable[str], names: list[str]) -> Column:
    """Whether a reason of a list's place speaks of one of these items."""
    if "reasons" not in set(columns) or not names:
        return F.lit(False)
    return F.coalesce(F.exists("reasons", lambda reason: reason["item_id"].isin(names)), F.lit(False))


def without_reasons(rows: DataFrame, names: list[str]) -> DataFrame:
    """Places whose reasons speak of one of these items have none: the next refresh finds others."""
    gone = explained_by(rows.columns, names)
    return rows.withColumn("reasons", F.when(~gone, F.col("reasons"))) if "reasons" in rows.columns else rows
