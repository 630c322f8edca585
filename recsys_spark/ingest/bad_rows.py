"""Bad rows by reason, with a value that shows what is wrong, and what to do about it. Pure functions."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.sources.reader import CORRUPT

SOURCE = "source "
"""Begins the table of a record that could not be parsed."""

_SAMPLE_CHARS = 80

_SHOWN = 3

_UNITS = {
    10: ("seconds", "timestamp_seconds(CAST({} AS bigint))"),
    13: ("milliseconds", "timestamp_millis(CAST({} AS bigint))"),
    16: ("microseconds", "timestamp_micros(CAST({} AS bigint))"),
    19: ("nanoseconds", "timestamp_micros(CAST({} AS bigint) DIV 1000)"),
}
"""Digits of a point in time from 2001 to 2286, counted from 1970: its unit, and what makes a timestamp of it."""


@dataclass(frozen=True)
class Bad:
    """Rows that were refused for one reason. ``sample``: one of the values; none of ids, or where none was given."""

    table: str
    reason: str
    rows: int
    sample: str | None = None


def by_reason(quarantine: DataFrame) -> DataFrame:
    """``table, reason, rows, sample``: reasons begin with the name of the column at fault."""
    name = F.substring_index("reason", " ", 1)
    column = F.when(F.col("table").startswith(SOURCE), F.lit(CORRUPT)).when(~name.endswith("_id"), name)
    value = F.substring(
        F.call_function("get_json_object", F.col("row"), F.concat(F.lit("$."), column)), 1, _SAMPLE_CHARS
    )
    return quarantine.groupBy("table", "reason").agg(F.count("*").alias("rows"), F.min(value).alias("sample"))


def most_frequent(bad: Iterable[Bad]) -> str:
    """The commonest reasons in words. A line that could not be parsed may name people: it is not shown."""
    worst = sorted(bad, key=lambda one: (-one.rows, one.table, one.reason))[:_SHOWN]
    return ", ".join(
        f"{one.reason} ({one.table}): {one.rows}"
        + (f", for example '{one.sample}'" if one.sample is not None and not one.table.startswith(SOURCE) else "")
        for one in worst
    )


def advice(bad: Iterable[Bad], select: Mapping[str, str]) -> str:
    """What to write into the dataset file where the values tell: times that are numbers, or of another form.

    Args:
        bad: rows of one table by reason.
        select: the expressions of that table.
    """
    for one in sorted(bad, key=lambda one: -one.rows):
        if one.reason.startswith("timestamp") and one.sample and (said := _of_time(one.sample, select["timestamp"])):
            return f" {said}."
    return ""


def _of_time(sample: str, expression: str) -> str:
    number = re.fullmatch(r"\s*-?\d+(\.\d+)?([eE][+]?\d+)?\s*", sample)
    digits = len(str(abs(int(float(sample))))) if number else 0
    if digits in _UNITS:
        unit, remedy = _UNITS[digits]
        return f'The times are {unit} since 1970: write timestamp = "{remedy.format(expression)}"'
    if re.fullmatch(r"\s*(19|20)\d{6}\s*", sample):
        return f"The times are days without hyphens: write timestamp = \"to_timestamp({expression}, 'yyyyMMdd')\""
    if re.match(r"\W*[tT]?\d{1,2}:", sample):
        return "A time of day has no date: join it with the column that holds the date"
    if re.match(r"\s*(\d{1,2}[./-]\d{1,2}[./-]\d{2,4}|\d{4}[./]\d{1,2}[./]\d{1,2}|[A-Z][a-z]{2,8}[ ,])", sample):
        return f"State the form of the times, such as timestamp = \"to_timestamp({expression}, 'dd/MM/yyyy HH:mm:ss')\""
    return ""
