"""The best settings for fine_tune_encoder, by trying: judged on validation, kept on disk, continued."""

from recsys_spark.publish.steps.publishing import Report
from recsys_spark.runtime.lifecycle import Run, main
from recsys_spark.tune.steps.search_hyperparameters import SearchOptions, search_hyperparameters


class Config(SearchOptions):
    """Keys of search_hyperparameters."""


def run(job: Run, config: Config) -> Report:
    """Search."""
    return search_hyperparameters(job, config)


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
