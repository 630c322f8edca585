"""Item vectors: the text embedding with category, brand and price blocks side by side."""

from recsys_spark.block_options import BlockOptions
from recsys_spark.job import Run, main
from recsys_spark.options import EncoderOptions
from recsys_spark.steps.model import resolve_model
from recsys_spark.steps.publishing import Report
from recsys_spark.steps.vectors import build_item_vectors


class Config(EncoderOptions, BlockOptions):
    """Keys of build_item_vectors."""


def run(job: Run, config: Config) -> Report:
    """Build the vectors of all items."""
    with job.progress.step("build_item_vectors"):
        return build_item_vectors(job, config, resolve_model(config, job))


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
