"""Configuration keys of vacuum_lake."""

from pydantic import Field

from recsys_spark.runtime.config import JobConfig


class VacuumOptions(JobConfig):
    """Age of removed files."""

    keep_hours: int = Field(
        168,
        ge=1,
        description="remove replaced versions, files of killed runs and unused item blocks older than N hours",
    )
