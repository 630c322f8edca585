"""Published recommendations against the events on or after run_date."""

from recsys_spark.evaluate.options import EvaluationOptions
from recsys_spark.evaluate.steps.evaluate_recommendations import evaluate_recommendations
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.runtime.lifecycle import Run, main


class Config(EvaluationOptions):
    """Keys of evaluate_recommendations."""


def run(job: Run, config: Config) -> Report:
    """Evaluate the published lists."""
    with job.progress.step("evaluate_recommendations"):
        return evaluate_recommendations(job, config)


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
