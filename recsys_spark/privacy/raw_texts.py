"""Personal values in raw rows that are kept with the reason why they were refused. Pure DataFrame functions."""

import json
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.privacy.kernels.scrub import scrub_text

_NO_TEXTS = frozenset(("user_id", "item_id"))
"""Columns without texts: ids must stay as they are, so that forgetting finds them."""

_MASKS = (("[0-9]", "9"), (r"\p{L}", "a"))


def scrubbed_rows(quarantined: DataFrame) -> DataFrame:
    """Quarantine rows whose raw ``row`` has its personal values replaced by their kind, except in columns of ids."""
    scrub = F.udf(lambda row: scrubbed_row(row), "string")
    return quarantined.withColumn("row", scrub("row"))


def scrubbed_row(row: str | None) -> str | None:
    """A raw row, JSON or any text, with its personal values replaced by their kind."""
    if row is None:
        return None
    try:
        content = json.loads(row)
    except ValueError:
        return scrub_text(row)
    return json.dumps(_scrubbed(content), ensure_ascii=False, separators=(",", ":"))


def _scrubbed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: part if name in _NO_TEXTS else _scrubbed(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_scrubbed(part) for part in value]
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        scrubbed = scrub_text(str(value))
        return value if scrubbed == str(value) else scrubbed
    return value


def withheld_rows(quarantined: DataFrame) -> DataFrame:
    """Quarantine rows without their raw ``row``, of which only the length is kept: nobody can tell where a record that
    could not be parsed names its user."""
    length = F.concat(F.lit('{"withheld":"'), F.length("row").cast("string"), F.lit(' characters"}'))
    return quarantined.withColumn("row", length)


def masked(value: Column) -> Column:
    """The form of a raw value: every digit is a 9, every letter an a."""
    for pattern, mark in _MASKS:
        value = F.regexp_replace(value, pattern, mark)
    return value
