"""Configuration keys of offline evaluation."""

from pydantic import Field

from recsys_spark.events.options import RelevanceOptions
from recsys_spark.runtime.config import formerly


class MetricOptions(RelevanceOptions):
    """Metrics of lists against later events."""

    metrics_k: int = Field(
        10,
        ge=1,
        description="cut-off k of the metrics: only the first k positions of a list count",
        json_schema_extra=formerly("at"),
    )


class EvaluationOptions(MetricOptions):
    """Evaluation of the published lists."""

    baselines: bool = Field(
        False, description="also evaluate lists by popularity and by recent popularity, for the same users"
    )
