"""People and items that must not come back. Pure DataFrame functions.

A tombstone holds an HMAC-SHA-256 of an id under the key of the lake, never the id: the list of the forgotten must not
name them, and who does not have the key cannot find them by trying all ids. Lakes of earlier versions hold the plain
SHA-256 of ``kind:id``; the HMAC is made of that, so that both kinds of tombstones can be compared with one value.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.privacy.raw_rows import SPACE, RawNames, possible_ids

KINDS = {"user": "user_id", "item": "item_id"}

PLACES = {"user_id": "user", "item_id": "item", "neighbor_id": "item"}
"""The columns that hold an id, and of which kind."""

_KEYED = "hmac:"

_MARK = "_named_"

_BLOCK = 64  # bytes of a block of SHA-256

OWN_ROWS = "rows of the forgotten are removed"

UNUSED_TEXTS = "rows of texts that no user and no item has now are removed"

UNTIL_REFRESH = "rows of others may reflect the forgotten until they are made again"

TOTALS = "totals over many people and items are kept"

HASHES = "holds keyed hashes of the forgotten"

RULES: Mapping[str, tuple[str, ...]] = {
    "items": (OWN_ROWS,),
    "users": (OWN_ROWS,),
    "user_rules": (OWN_ROWS,),
    "events": (OWN_ROWS,),
    "quarantine": (OWN_ROWS,),
    "embeddings": (UNUSED_TEXTS,),
    "failed_texts": (UNUSED_TEXTS,),
    "whitenings": (TOTALS,),
    "price_cuts": (TOTALS,),
    "item_vectors": (OWN_ROWS, UNTIL_REFRESH),
    "user_profiles": (OWN_ROWS, UNTIL_REFRESH),
    "recommendations": (OWN_ROWS, UNTIL_REFRESH),
    "impressions": (OWN_ROWS,),
    "item_neighbors": (OWN_ROWS, UNTIL_REFRESH),
    "item_weights": (OWN_ROWS, UNTIL_REFRESH),
    "metrics": (TOTALS,),
    "changes": (TOTALS,),
    "forgotten": (HASHES,),
}
"""What forgetting does with each table of the lake."""


@dataclass(frozen=True)
class Tombstones:
    """``frame``: ``kind, id_hash``, all keyed. ``pads``: one row with the key's two pads, ``_inner_pad, _outer_pad``:
    a literal would stand in plans and in Spark's event log."""

    frame: DataFrame
    pads: DataFrame
    key: bytes


@dataclass(frozen=True)
class Named:
    """Users and items that somebody names: by ``kind, id`` in ``frame``, and for raw rows."""

    frame: DataFrame
    raw: RawNames
    ids: Mapping[str, Sequence[str]]


def id_hash(kind: str, name: str, key: bytes) -> str:
    """What stands for an id of a ``kind``, user or item, in a lake with this key."""
    plain = hashlib.sha256(f"{kind}:{name}".encode()).hexdigest()
    return _KEYED + hmac.new(key, plain.encode(), hashlib.sha256).hexdigest()


def key_pads(key: bytes) -> tuple[bytes, bytes]:
    """Inner and outer pad of an HMAC of SHA-256 (RFC 2104); ``key`` is not longer than a block."""
    padded = key.ljust(_BLOCK, b"\0")
    return bytes(byte ^ 0x36 for byte in padded), bytes(byte ^ 0x5C for byte in padded)


def tombstones(stored: DataFrame, pads: DataFrame, key: bytes) -> Tombstones:
    """The ``kind, id_hash`` that a lake holds, those of earlier versions keyed."""
    known = F.col("id_hash").startswith(_KEYED)
    hashes = F.when(known, F.col("id_hash")).otherwise(_keyed(F.col("id_hash")))
    return Tombstones(stored.crossJoin(F.broadcast(pads)).select("kind", hashes.alias("id_hash")).distinct(), pads, key)


def without_forgotten(rows: DataFrame, stones: Tombstones | None) -> DataFrame:
    """``rows`` without those of forgotten users and items; None: nobody is forgotten."""
    places = [place for place in PLACES if place in rows.columns]
    if stones is None or not places:
        return rows
    columns = rows.columns
    rows = rows.crossJoin(F.broadcast(stones.pads))
    for place in places:
        kind = PLACES[place]
        gone = F.broadcast(stones.frame.where(F.col("kind") == kind).select(F.col("id_hash").alias("_id_hash")))
        name = F.trim(F.col(place).cast("string"), F.lit(SPACE))
        own = _keyed(F.sha2(F.concat(F.lit(f"{kind}:"), name).cast("binary"), 256))
        rows = rows.join(gone, on=own == F.col("_id_hash"), how="left_anti")
    return rows.select(*(f"`{column}`" for column in columns))


def without_forgotten_raw(rows: DataFrame, stones: Tombstones | None) -> DataFrame:
    """Quarantined ``rows`` without those whose raw ``row`` holds a forgotten id as a value, a field or a word."""
    if stones is None:
        return rows
    key = stones.key

    def hashes(row: str | None) -> list[str]:
        return sorted({id_hash(kind, name, key) for name in possible_ids(row) for kind in KINDS})

    columns = rows.columns
    gone = F.broadcast(stones.frame.select("id_hash", F.lit(1).alias("gone")))
    numbered = rows.withColumn("number", F.monotonically_increasing_id())
    spread = numbered.withColumn("id_hash", F.explode_outer(F.udf(hashes, "array<string>")("row")))
    judged = spread.join(gone, on="id_hash", how="left").groupBy("number", *columns).agg(F.max("gone").alias("gone"))
    return judged.where(F.col("gone").isNull()).select(*columns)


def marked(rows: DataFrame, named: Named) -> DataFrame:
    """``rows`` with columns that say by which ``kind:id`` each is one of the ``named``: by its id columns, or, where it
    holds a raw row, by anything in there."""
    for place, kind in PLACES.items():
        if place in rows.columns and named.ids.get(kind):
            whole = F.concat(F.lit(f"{kind}:"), F.col("id")).alias(_MARK + place)
            ids = named.frame.where(F.col("kind") == kind).select(F.col("id").alias("_id"), whole)
            rows = rows.join(F.broadcast(ids), on=F.col(place) == F.col("_id"), how="left").drop("_id")
    if "row" in rows.columns and any(named.ids.values()):
        rows = rows.withColumn(f"{_MARK}row", F.udf(named.raw.found_in_row, "array<string>")("row"))
    return rows


def is_own(columns: Sequence[str]) -> Column:
    """Whether a ``marked`` row is one of the named users' or items'."""
    found = F.lit(False)
    for name in _marks(columns):
        found = found | (F.size(name) > 0 if name == f"{_MARK}row" else F.col(name).isNotNull())
    return found


def names_found(columns: Sequence[str]) -> Column:
    """All ``kind:id`` that stand in ``marked`` rows, as an aggregate."""
    sets = [F.collect_set(name) for name in _marks(columns)]
    parts = [F.flatten(s) if name == f"{_MARK}row" else s for name, s in zip(_marks(columns), sets, strict=True)]
    return F.array_distinct(F.concat(F.array().cast("array<string>"), *parts))


def without_own(rows: DataFrame) -> DataFrame:
    """The ``marked`` rows of everybody else, without the marks."""
    return rows.where(~is_own(rows.columns)).drop(*_marks(rows.columns))


def without_unused(rows: DataFrame, *owners: DataFrame) -> DataFrame:
    """Rows by ``text_hash`` of texts that one of the ``owners`` has now."""
    used = owners[0].select("text_hash")
    for more in owners[1:]:
        used = used.unionByName(more.select("text_hash"))
    return rows.join(used.where(F.col("text_hash").isNotNull()).distinct(), on="text_hash", how="left_semi")


def explained_by(columns: Sequence[str], items: Sequence[str]) -> Column:
    """Whether a reason of a list's place speaks of one of these items."""
    if "reasons" not in columns or not items:
        return F.lit(False)
    names = frozenset(items)
    speaks = F.udf(lambda found: found is not None and not names.isdisjoint(found), "boolean")
    return speaks(F.col("reasons")["item_id"])


def without_reasons(rows: DataFrame, items: Sequence[str]) -> DataFrame:
    """Places whose reasons speak of one of these items have none: the next refresh finds others."""
    gone = explained_by(rows.columns, items)
    return rows.withColumn("reasons", F.when(~gone, F.col("reasons"))) if "reasons" in rows.columns else rows


def _keyed(plain: Column) -> Column:
    inside = F.unhex(F.sha2(F.concat(F.col("_inner_pad"), plain.cast("binary")), 256))
    return F.concat(F.lit(_KEYED), F.sha2(F.concat(F.col("_outer_pad"), inside), 256))


def _marks(columns: Sequence[str]) -> list[str]:
    return [name for name in columns if name.startswith(_MARK)]
