"""Configuration keys of offline evaluation."""

from pydantic import Field

from recsys_spark.events.options import EventOptions
from recsys_spark.runtime.config import formerly


class JudgeOptions(EventOptions):
    """Metrics of lists."""

    metrics_k: int = Field(
        10, ge=1, description="k of the metrics: list positions that count", json_schema_extra=formerly("at")
    )
    min_rating: float = Field(4.0, description="a later rating is relevant from this value")


class EvaluationOptions(JudgeOptions):
    """Offline evaluation."""

    baselines: bool = Field(False, description="also score popularity lists for the users that are evaluated")
