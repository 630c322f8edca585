"""Groups of configuration keys that several jobs share. Descriptions state the units, for ``JOB --help``."""

from datetime import date

from pydantic import Field

from recsys_spark.runtime.config import JobConfig


class RunDate(JobConfig):
    """Run date."""

    run_date: date = Field(
        description="date of the run, YYYY-MM-DD, used instead of a clock: only events strictly before it (UTC) count"
    )
