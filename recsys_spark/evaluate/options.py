"""Configuration keys of offline evaluation."""

from pydantic import Field

from recsys_spark.events.options import EventOptions
from recsys_spark.runtime.config import formerly


class MetricOptions(EventOptions):
    """Metrics of lists against later events."""

    metrics_k: int = Field(
        10,
        ge=1,
        description="cut-off k of the metrics: only the first k positions of a list count",
        json_schema_extra=formerly("at"),
    )
    min_rating: float = Field(4.0, description="minimum rating with which a later event makes its item relevant")


class EvaluationOptions(MetricOptions):
    """Evaluation of the published lists."""

    baselines: bool = Field(False, description="also evaluate popularity lists, for the same users")
