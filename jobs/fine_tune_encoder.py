"""A model folder of one's own: an encoder tuned on scores (regression) or histories (contrastive)."""

from recsys_spark.publish.steps.publishing import Report
from recsys_spark.runtime.lifecycle import Run, main
from recsys_spark.tune.options import TuningOptions
from recsys_spark.tune.steps.fine_tune_encoder import fine_tune_encoder


class Config(TuningOptions):
    """Keys of fine_tune_encoder."""


def run(job: Run, config: Config) -> Report:
    """Train and publish."""
    return fine_tune_encoder(job, config)


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
