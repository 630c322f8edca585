"""Evaluate what was shown to users: off-policy estimates, interleaved lists, tests of two arms."""

from recsys_spark.online.options import OnlineOptions
from recsys_spark.online.steps.evaluate_online import evaluate_online
from recsys_spark.runtime.lifecycle import Job, main

JOB = Job(__file__, __doc__, OnlineOptions, evaluate_online)

if __name__ == "__main__":
    main(JOB)
