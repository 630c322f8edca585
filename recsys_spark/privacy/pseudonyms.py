"""Pseudonyms: user ids replaced by an HMAC-SHA-256 under a secret key. Pure DataFrame functions.

A pseudonym is the first 128 bits, in 32 hexadecimal digits, of HMAC-SHA-256 (RFC 2104) over the id in UTF-8. Two users
of 100 million share one with a probability below 1e-22.
"""

import hashlib
import hmac
import re

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.privacy.raw_rows import SPACE

_DIGITS = 32

_BLOCK = 64  # block size of SHA-256 in bytes

_CONSTANT = b"recsys-spark: fingerprint of a user key"

PADS = "_user_inner binary, _user_outer binary"
"""The columns of a frame of one row with the pads of the key: a literal would appear in plans and in event logs."""


def pseudonym(user_id: str, key: bytes) -> str:
    """The pseudonym of a raw user id."""
    return hmac.new(key, user_id.strip(SPACE).encode(), hashlib.sha256).hexdigest()[:_DIGITS]


def is_pseudonym(user_id: str) -> bool:
    """Whether an id has the form of a pseudonym."""
    return re.fullmatch(rf"[0-9a-f]{{{_DIGITS}}}", user_id) is not None


def fingerprint(key: bytes) -> str:
    """Tells keys apart: an HMAC of a constant, from which nobody learns the key or a pseudonym."""
    return hmac.new(key, _CONSTANT, hashlib.sha256).hexdigest()[:16]


def hmac_pads(key: bytes) -> tuple[bytes, bytes]:
    """Inner and outer pad of HMAC-SHA-256 for a key of any length (RFC 2104)."""
    short = hashlib.sha256(key).digest() if len(key) > _BLOCK else key
    padded = short.ljust(_BLOCK, b"\0")
    return bytes(byte ^ 0x36 for byte in padded), bytes(byte ^ 0x5C for byte in padded)


def with_pseudonyms(rows: DataFrame, pads: DataFrame | None) -> DataFrame:
    """``rows`` with a pseudonym in ``user_id``; ids that are null or blank stay. Unchanged if ``pads`` is None or there
    is no such column.

    ``pads``: one row of PADS.
    """
    if pads is None or "user_id" not in rows.columns:
        return rows
    name = F.trim(F.col("user_id").cast("string"), F.lit(SPACE))
    inside = F.unhex(F.sha2(F.concat(F.col("_user_inner"), name.cast("binary")), 256))
    hashed = F.substring(F.sha2(F.concat(F.col("_user_outer"), inside), 256), 1, _DIGITS)
    keyed = rows.crossJoin(F.broadcast(pads)).withColumn("user_id", F.when(name == "", name).otherwise(hashed))
    return keyed.select(*(f"`{column}`" for column in rows.columns))
