"""Encode the distinct texts of items and users that the model has not embedded yet."""

from recsys_spark.encode.options import EncoderOptions
from recsys_spark.encode.steps.embed_texts import embed_texts
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.runtime.lifecycle import Run, main


class Config(EncoderOptions):
    """Keys of embed_texts."""


def run(job: Run, config: Config) -> Report:
    """Embed what is missing."""
    with job.progress.step("embed_texts"):
        return embed_texts(job, config)


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
