"""Item vectors: the text embedding with category, brand and price blocks side by side."""

from recsys_spark.encode.options import EncoderOptions
from recsys_spark.encode.steps.model_source import resolve_model
from recsys_spark.items.options import BlockOptions
from recsys_spark.items.steps.build_item_vectors import build_item_vectors
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.runtime.lifecycle import Run, main


class Config(EncoderOptions, BlockOptions):
    """Keys of build_item_vectors."""


def run(job: Run, config: Config) -> Report:
    """Build the vectors of all items."""
    with job.progress.step("build_item_vectors"):
        return build_item_vectors(job, config, resolve_model(config, job))


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
