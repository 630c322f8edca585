"""Groups of configuration keys that several jobs share. Units are in the descriptions: ``JOB --help`` shows them."""

from datetime import date

from pydantic import Field

from recsys_spark.runtime.config import JobConfig


class RunDate(JobConfig):
    """Jobs that look at time."""

    run_date: date = Field(description="the only clock, YYYY-MM-DD: events strictly before it (UTC) are known")
