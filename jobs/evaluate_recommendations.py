"""Evaluate published recommendations on the events on or after run_date."""

from recsys_spark.evaluate.options import EvaluationOptions
from recsys_spark.evaluate.steps.evaluate_recommendations import evaluate_recommendations
from recsys_spark.runtime.lifecycle import Job, main

JOB = Job(__file__, __doc__, EvaluationOptions, evaluate_recommendations)

if __name__ == "__main__":
    main(JOB)
