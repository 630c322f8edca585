"""A model folder of one's own: an encoder tuned on scores (regression) or histories (contrastive)."""

from recsys_spark.job import Run, main
from recsys_spark.steps.fine_tune import fine_tune_encoder
from recsys_spark.steps.publishing import Report
from recsys_spark.steps.tuning_options import TuningOptions


class Config(TuningOptions):
    """Keys of fine_tune_encoder."""


def run(job: Run, config: Config) -> Report:
    """Train and publish."""
    return fine_tune_encoder(job, config)


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
