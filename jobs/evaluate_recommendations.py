"""Published recommendations against the events on or after run_date."""

from recsys_spark.job import Run, main
from recsys_spark.options import EvaluationOptions
from recsys_spark.steps.evaluate import evaluation
from recsys_spark.steps.publishing import Report


class Config(EvaluationOptions):
    """Keys of evaluate_recommendations."""


def run(job: Run, config: Config) -> Report:
    """Evaluate the published lists."""
    with job.progress.step("evaluate_recommendations"):
        return evaluation(job, config)


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
