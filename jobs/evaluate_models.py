"""Scorers compared under a published protocol, on full rankings."""

from recsys_spark.evaluate.steps.evaluate_models import ComparisonOptions, evaluate_models
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.runtime.lifecycle import Run, main


class Config(ComparisonOptions):
    """Keys of evaluate_models."""


def run(job: Run, config: Config) -> Report:
    """Compare."""
    return evaluate_models(job, config)


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
