"""Configuration keys of reasons."""

from typing import Literal

from pydantic import Field

from recsys_spark.runtime.config import JobConfig


class ReasonOptions(JobConfig):
    """Reasons of recommendations."""

    explain: int = Field(
        0, ge=0, description="number of reasons stored with every row of a list; 0 stores none and costs nothing"
    )
    language: Literal["en", "zh"] = Field("en", description="language of the reasons")
