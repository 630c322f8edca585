"""Events, texts and item vectors to the weights of hybrid lists."""

from recsys_spark.hybrid.options import WeightOptions
from recsys_spark.hybrid.steps.fit_item_weights import fit_item_weights
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.runtime.lifecycle import Run, main


class Config(WeightOptions):
    """Keys of fit_item_weights."""


def run(job: Run, config: Config) -> Report:
    """Publish item_weights."""
    with job.progress.step("fit_item_weights"):
        return fit_item_weights(job, config)


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
