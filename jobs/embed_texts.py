"""Encode the distinct texts of items and users that the model has not embedded yet."""

from recsys_spark.job import Run, main
from recsys_spark.options import EncoderOptions
from recsys_spark.steps.embed import embed_texts
from recsys_spark.steps.publishing import Report


class Config(EncoderOptions):
    """Keys of embed_texts."""


def run(job: Run, config: Config) -> Report:
    """Embed what is missing."""
    with job.progress.step("embed_texts"):
        return embed_texts(job, config)


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
