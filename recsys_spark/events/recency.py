"""Counts of events that decay by days, as integers: their sum is the same in any order."""

from datetime import date

from pyspark.sql import Column
from pyspark.sql import functions as F

UNIT = 2.0**20
"""A decayed count of 1 in the integers of ``decayed``."""


def age_in_days(before: date) -> Column:
    """Whole days from the day of an event to ``before``: 1 for the day before it."""
    return F.datediff(F.lit(before), F.to_date("timestamp"))


def decayed(age: Column, half_life_days: float) -> Column:
    """2^(−age / half_life_days) in multiples of 1 / UNIT (bigint)."""
    return F.round(F.pow(F.lit(2.0), -age.cast("double") / half_life_days) * UNIT).cast("bigint")
