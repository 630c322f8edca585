"""Count bad rows by reason, with a sample value, and suggest a remedy. Pure functions."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.sources.reader import CORRUPT

SOURCE = "source "
"""Prefix of ``table`` in quarantine rows of records that could not be parsed."""

_SAMPLE_CHARS = 80

_LISTED = 3

_UNITS = {
    10: ("seconds", "timestamp_seconds(CAST({} AS bigint))"),
    13: ("milliseconds", "timestamp_millis(CAST({} AS bigint))"),
    16: ("microseconds", "timestamp_micros(CAST({} AS bigint))"),
    19: ("nanoseconds", "timestamp_micros(CAST({} AS bigint) DIV 1000)"),
}
"""By the number of digits of a time since 1970, for times from 2001 to 2286: its unit, and the SQL for a timestamp."""


@dataclass(frozen=True)
class BadRows:
    """Rows that were refused for one reason. ``sample``: one of the values; None for ids and missing values."""

    table: str
    reason: str
    rows: int
    sample: str | None = None


def by_reason(quarantine: DataFrame) -> DataFrame:
    """``table, reason, rows, sample`` of quarantine rows. A reason begins with the name of the column at fault."""
    name = F.substring_index("reason", " ", 1)
    column = F.when(F.col("table").startswith(SOURCE), F.lit(CORRUPT)).when(~name.endswith("_id"), name)
    value = F.substring(
        F.call_function("get_json_object", F.col("row"), F.concat(F.lit("$."), column)), 1, _SAMPLE_CHARS
    )
    return quarantine.groupBy("table", "reason").agg(F.count("*").alias("rows"), F.min(value).alias("sample"))


def most_frequent(bad: Iterable[BadRows]) -> str:
    """The most frequent reasons in words. Records that could not be parsed are not quoted: they may name people."""
    worst = sorted(bad, key=lambda one: (-one.rows, one.table, one.reason))[:_LISTED]
    return ", ".join(
        f"{one.reason} ({one.table}): {one.rows}"
        + (f", for example '{one.sample}'" if one.sample is not None and not one.table.startswith(SOURCE) else "")
        for one in worst
    )


def advice(bad: Iterable[BadRows], select: Mapping[str, str]) -> str:
    """A change of the dataset file for times that are numbers or have another format; empty if there is none.

    Args:
        bad: rows of one table by reason.
        select: the SQL expressions of that table by column.
    """
    for one in sorted(bad, key=lambda one: -one.rows):
        sample = one.sample if one.reason.startswith("timestamp") else None
        if sample and (remedy := _time_remedy(sample, select["timestamp"])):
            return f" {remedy}."
    return ""


def _time_remedy(sample: str, expression: str) -> str:
    number = re.fullmatch(r"\s*-?\d+(\.\d+)?([eE][+]?\d+)?\s*", sample)
    digits = len(str(abs(int(float(sample))))) if number else 0
    if digits in _UNITS:
        unit, sql = _UNITS[digits]
        return f'The times are {unit} since 1970: write timestamp = "{sql.format(expression)}"'
    if re.fullmatch(r"\s*(19|20)\d{6}\s*", sample):
        return f"The times are days without hyphens: write timestamp = \"to_timestamp({expression}, 'yyyyMMdd')\""
    if re.match(r"\W*[tT]?\d{1,2}:", sample):
        return "A time of day has no date: combine it with the column that holds the date"
    if re.match(r"\s*(\d{1,2}[./-]\d{1,2}[./-]\d{2,4}|\d{4}[./]\d{1,2}[./]\d{1,2}|[A-Z][a-z]{2,8}[ ,])", sample):
        return (
            f"State the format of the times, such as timestamp = \"to_timestamp({expression}, 'dd/MM/yyyy HH:mm:ss')\""
        )
    return ""
