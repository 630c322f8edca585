"""Configuration keys of offline evaluation."""

from pydantic import Field

from recsys_spark.events.options import EventOptions
from recsys_spark.runtime.config import formerly


class MetricOptions(EventOptions):
    """Metrics of lists against later events."""

    metrics_k: int = Field(
        10, ge=1, description="k of the metrics: list positions that count", json_schema_extra=formerly("at")
    )
    min_rating: float = Field(4.0, description="lowest rating of a later event that makes its item relevant")


class EvaluationOptions(MetricOptions):
    """Evaluation of the published lists."""

    baselines: bool = Field(False, description="also evaluate popularity lists, for the same users")
