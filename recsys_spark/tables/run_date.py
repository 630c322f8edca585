"""The events that a run may use, by its run date."""

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def events_before(events: DataFrame, run_date: date) -> DataFrame:
    """The events that a run for ``run_date`` may use: strictly before its midnight, UTC."""
    return events.where(F.col("timestamp") < F.lit(str(run_date)).cast("timestamp"))
