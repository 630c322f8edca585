"""Parse timestamps and days of raw rows, as Column expressions. ``run_date`` is the only clock."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

_WITHOUT_DATE = r"^\P{Alnum}*[tT]?\d+:"


def moment(frame: DataFrame, name: str) -> Column:
    """A column of any type as a timestamp, null where a value is not a timestamp.

    A time of day without a date is null too: Spark would complete it with the day on which it runs.
    """
    kind, time = dict(frame.dtypes)[name], F.col(name).try_cast("timestamp")
    if kind.startswith("time("):
        return F.lit(None).cast("timestamp")
    return F.when(~F.col(name).rlike(_WITHOUT_DATE), time) if kind == "string" else time


def day(name: str) -> Column:
    """A column of any type as a date, null where a value is not a date."""
    return F.col(name).cast("string").try_cast("date")
