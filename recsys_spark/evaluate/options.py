"""Configuration keys of offline evaluation."""

from pydantic import Field

from recsys_spark.events.options import EventOptions


class JudgeOptions(EventOptions):
    """What later events say of a list."""

    at: int = Field(10, ge=1, description="the k of the metrics")
    min_rating: float = Field(4.0, description="a later rating is relevant from this value")


class EvaluationOptions(JudgeOptions):
    """Lists against later events."""

    baselines: bool = Field(False, description="also score popularity lists for the users that are evaluated")
