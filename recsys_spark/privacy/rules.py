"""What forgetting does with each table, and filters for forgotten users and items. Pure DataFrame functions.

A tombstone holds an HMAC-SHA-256 of an id under the key of the lake, never the id itself: the table of forgotten ids
must not name anybody, and without the key nobody can recover an id by hashing all candidates. Lakes of earlier versions
hold the plain SHA-256 of ``kind:id``. The HMAC is computed over that hash, so one value compares with both forms.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.privacy.raw_rows import SPACE, IdMatcher, candidate_ids

KINDS = {"user": "user_id", "item": "item_id"}

ID_COLUMNS = {"user_id": "user", "item_id": "item", "neighbor_id": "item"}
"""The columns that hold an id, each with the kind of that id."""

_KEYED = "hmac:"

_MATCH = "_match_"

_BLOCK = 64  # block size of SHA-256 in bytes

REMOVE_ROWS = "rows of forgotten users and items are removed"

REMOVE_UNUSED_TEXTS = "rows of texts that no user and no item has any more are removed"

STALE_UNTIL_REFRESH = "rows of others may reflect forgotten data until the next refresh"

KEEP_TOTALS = "totals over many users and items are kept"

KEEP_HASHES = "holds keyed hashes of forgotten ids"

RULES: Mapping[str, tuple[str, ...]] = {
    "items": (REMOVE_ROWS,),
    "users": (REMOVE_ROWS,),
    "user_rules": (REMOVE_ROWS,),
    "events": (REMOVE_ROWS,),
    "quarantine": (REMOVE_ROWS,),
    "streamed_events": (REMOVE_ROWS,),
    "streamed_quarantine": (REMOVE_ROWS,),
    "embeddings": (REMOVE_UNUSED_TEXTS,),
    "failed_texts": (REMOVE_UNUSED_TEXTS,),
    "whitenings": (KEEP_TOTALS,),
    "price_cuts": (KEEP_TOTALS,),
    "item_vectors": (REMOVE_ROWS, STALE_UNTIL_REFRESH),
    "user_profiles": (REMOVE_ROWS, STALE_UNTIL_REFRESH),
    "recommendations": (REMOVE_ROWS, STALE_UNTIL_REFRESH),
    "user_segments": (REMOVE_ROWS, STALE_UNTIL_REFRESH),
    "segments": (KEEP_TOTALS, STALE_UNTIL_REFRESH),
    "live_profiles": (REMOVE_ROWS, STALE_UNTIL_REFRESH),
    "live_recommendations": (REMOVE_ROWS, STALE_UNTIL_REFRESH),
    "impressions": (REMOVE_ROWS,),
    "exposures": (REMOVE_ROWS,),
    "interleaved": (REMOVE_ROWS,),
    "item_neighbors": (REMOVE_ROWS, STALE_UNTIL_REFRESH),
    "item_weights": (REMOVE_ROWS, STALE_UNTIL_REFRESH),
    "user_risk": (REMOVE_ROWS, STALE_UNTIL_REFRESH),
    "item_risk": (REMOVE_ROWS, STALE_UNTIL_REFRESH),
    "attack_truth": (REMOVE_ROWS,),
    "rule_audit": (REMOVE_ROWS, STALE_UNTIL_REFRESH),
    "noisy_profiles": (REMOVE_ROWS,),
    "noisy_means": (KEEP_TOTALS,),
    "noisy_counts": (REMOVE_ROWS,),
    "privacy_ledger": (KEEP_TOTALS,),
    "metrics": (KEEP_TOTALS,),
    "online_metrics": (KEEP_TOTALS,),
    "changes": (KEEP_TOTALS,),
    "forgotten": (KEEP_HASHES,),
}
"""What forgetting does with each table of the lake."""


@dataclass(frozen=True)
class Tombstones:
    """``frame``: ``kind, id_hash``, all keyed. ``pads``: one row with the two pads of the key, ``_inner_pad,
    _outer_pad``. They are a frame because a literal would appear in plans and in Spark's event log."""

    frame: DataFrame
    pads: DataFrame
    key: bytes


@dataclass(frozen=True)
class RequestedIds:
    """Users and items to forget: as rows ``kind, id`` in ``frame``, as a matcher for raw rows, and by kind."""

    frame: DataFrame
    matcher: IdMatcher
    ids: Mapping[str, Sequence[str]]


def id_hash(kind: str, name: str, key: bytes) -> str:
    """The keyed hash of an id of a ``kind``, user or item, in the lake with this key."""
    plain = hashlib.sha256(f"{kind}:{name}".encode()).hexdigest()
    return _KEYED + hmac.new(key, plain.encode(), hashlib.sha256).hexdigest()


def key_pads(key: bytes) -> tuple[bytes, bytes]:
    """Inner and outer pad of an HMAC-SHA-256 (RFC 2104); ``key`` has at most 64 bytes, one block."""
    padded = key.ljust(_BLOCK, b"\0")
    return bytes(byte ^ 0x36 for byte in padded), bytes(byte ^ 0x5C for byte in padded)


def tombstones(stored: DataFrame, pads: DataFrame, key: bytes) -> Tombstones:
    """The distinct ``kind, id_hash`` that a lake holds; plain hashes of earlier versions become keyed ones."""
    is_keyed = F.col("id_hash").startswith(_KEYED)
    hashes = F.when(is_keyed, F.col("id_hash")).otherwise(_keyed(F.col("id_hash")))
    return Tombstones(stored.crossJoin(F.broadcast(pads)).select("kind", hashes.alias("id_hash")).distinct(), pads, key)


def without_forgotten(rows: DataFrame, stones: Tombstones | None) -> DataFrame:
    """``rows`` without those of forgotten users and items; unchanged if ``stones`` is None."""
    id_columns = [column for column in ID_COLUMNS if column in rows.columns]
    if stones is None or not id_columns:
        return rows
    columns = rows.columns
    rows = rows.crossJoin(F.broadcast(stones.pads))
    for column in id_columns:
        kind = ID_COLUMNS[column]
        forgotten = F.broadcast(stones.frame.where(F.col("kind") == kind).select(F.col("id_hash").alias("_id_hash")))
        name = F.trim(F.col(column).cast("string"), F.lit(SPACE))
        hashed = _keyed(F.sha2(F.concat(F.lit(f"{kind}:"), name).cast("binary"), 256))
        rows = rows.join(forgotten, on=hashed == F.col("_id_hash"), how="left_anti")
    return rows.select(*(f"`{column}`" for column in columns))


def without_forgotten_raw(rows: DataFrame, stones: Tombstones | None) -> DataFrame:
    """Quarantined ``rows`` without those whose raw ``row`` holds a forgotten id as a value, a field or a word."""
    if stones is None:
        return rows
    key = stones.key

    def hashes(row: str | None) -> list[str]:
        return sorted({id_hash(kind, name, key) for name in candidate_ids(row) for kind in KINDS})

    columns = rows.columns
    forgotten = F.broadcast(stones.frame.select("id_hash", F.lit(1).alias("forgotten")))
    numbered = rows.withColumn("number", F.monotonically_increasing_id())
    spread = numbered.withColumn("id_hash", F.explode_outer(F.udf(hashes, "array<string>")("row")))
    flagged = spread.join(forgotten, on="id_hash", how="left").groupBy("number", *columns)
    return flagged.agg(F.max("forgotten").alias("forgotten")).where(F.col("forgotten").isNull()).select(*columns)


def with_matches(rows: DataFrame, requested: RequestedIds) -> DataFrame:
    """``rows`` with a column of matching ``kind:id`` for each id column, and for the raw ``row`` where there is one."""
    for column, kind in ID_COLUMNS.items():
        if column in rows.columns and requested.ids.get(kind):
            match = F.concat(F.lit(f"{kind}:"), F.col("id")).alias(_MATCH + column)
            ids = requested.frame.where(F.col("kind") == kind).select(F.col("id").alias("_id"), match)
            rows = rows.join(F.broadcast(ids), on=F.col(column) == F.col("_id"), how="left").drop("_id")
    if "row" in rows.columns and any(requested.ids.values()):
        rows = rows.withColumn(f"{_MATCH}row", F.udf(requested.matcher.ids_in_row, "array<string>")("row"))
    return rows


def is_match(columns: Sequence[str]) -> Column:
    """Whether a row of ``with_matches`` belongs to a requested user or item; ``columns``: those of the rows."""
    matches = F.lit(False)
    for name in _match_columns(columns):
        matches = matches | (F.size(name) > 0 if name == f"{_MATCH}row" else F.col(name).isNotNull())
    return matches


def matched_ids(columns: Sequence[str]) -> Column:
    """Aggregate: the distinct ``kind:id`` that rows of ``with_matches`` hold; ``columns``: those of the rows."""
    names = _match_columns(columns)
    sets = [F.flatten(F.collect_set(n)) if n == f"{_MATCH}row" else F.collect_set(n) for n in names]
    return F.array_distinct(F.concat(F.array().cast("array<string>"), *sets))


def without_matches(rows: DataFrame) -> DataFrame:
    """The rows of ``with_matches`` that match no requested id, without the columns of matches."""
    return rows.where(~is_match(rows.columns)).drop(*_match_columns(rows.columns))


def without_unused(rows: DataFrame, *owners: DataFrame) -> DataFrame:
    """Rows by ``text_hash`` whose text one of the ``owners`` still has."""
    used = owners[0].select("text_hash")
    for more in owners[1:]:
        used = used.unionByName(more.select("text_hash"))
    return rows.join(used.where(F.col("text_hash").isNotNull()).distinct(), on="text_hash", how="left_semi")


def reasons_mention(columns: Sequence[str], items: Sequence[str]) -> Column:
    """Whether a reason of a recommendation mentions one of ``items``; ``columns``: those of the rows."""
    if not _has_reasons(columns) or not items:
        return F.lit(False)
    names = frozenset(items)
    mentions = F.udf(lambda ids: ids is not None and not names.isdisjoint(ids), "boolean")
    return mentions(F.col("reasons")["item_id"])


def without_reasons(rows: DataFrame, items: Sequence[str]) -> DataFrame:
    """``rows`` with null ``reasons`` where one mentions any of ``items``; the next refresh fills them again."""
    mentioned = reasons_mention(rows.columns, items)
    return rows.withColumn("reasons", F.when(~mentioned, F.col("reasons"))) if _has_reasons(rows.columns) else rows


def _has_reasons(columns: Sequence[str]) -> bool:
    """Whether reasons name items: those of lists do, those of risk scores are sentences without ids."""
    return {"reasons", "rank"} <= {*columns}


def _keyed(plain: Column) -> Column:
    inside = F.unhex(F.sha2(F.concat(F.col("_inner_pad"), plain.cast("binary")), 256))
    return F.concat(F.lit(_KEYED), F.sha2(F.concat(F.col("_outer_pad"), inside), 256))


def _match_columns(columns: Sequence[str]) -> list[str]:
    return [name for name in columns if name.startswith(_MATCH)]
