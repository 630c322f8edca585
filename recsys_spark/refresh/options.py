"""Configuration keys of the jobs on a whole lake."""

from datetime import date

from pydantic import Field

from recsys_spark.runtime.config import Configuration, JobConfig


class VacuumOptions(JobConfig):
    """Age of removed files."""

    keep_hours: int = Field(
        168,
        ge=1,
        description="remove replaced versions, files of killed runs and unused item blocks older than N hours",
    )


class RestoreOptions(JobConfig):
    """The night."""

    run_date: date = Field(description="show the tables of the night of this run_date again (YYYY-MM-DD)")


class CloneOptions(JobConfig):
    """The clone."""

    to: str = Field(description="folder or URI of the new lake; it must not exist, or be an unfinished clone")
    run_date: date | None = Field(
        None, description="clone the tables of the night of this run_date; default: the newest versions"
    )


class StatusOptions(Configuration):
    """The lake."""

    lake: str = Field(description="folder or URI of the lake; nothing is written to it")
