"""Compare scorers under a published protocol, on full rankings."""

from recsys_spark.evaluate.steps.comparison_options import ComparisonOptions
from recsys_spark.evaluate.steps.evaluate_models import evaluate_models
from recsys_spark.runtime.lifecycle import Job, main

JOB = Job(__file__, __doc__, ComparisonOptions, evaluate_models, shows_own_steps=True)

if __name__ == "__main__":
    main(JOB)
