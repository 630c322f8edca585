"""Search for the best hyperparameters of fine_tune_encoder on validation; the study is on disk and resumable."""

from recsys_spark.runtime.lifecycle import Job, main
from recsys_spark.tune.steps.search_hyperparameters import SearchOptions, search_hyperparameters

JOB = Job(__file__, __doc__, SearchOptions, search_hyperparameters, shows_own_steps=True)

if __name__ == "__main__":
    main(JOB)
