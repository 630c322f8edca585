"""Configuration keys of upkeep."""

from pydantic import Field

from recsys_spark.runtime.config import JobConfig


class VacuumOptions(JobConfig):
    """Old versions."""

    keep_hours: int = Field(
        168,
        ge=1,
        description="hours for which replaced versions, and files of killed runs, are kept",
    )
