"""Recommendations: the blockwise cosine Top-K join of profiles and items, seen items left out."""

from recsys_spark.job import Run, main
from recsys_spark.options import TopKOptions
from recsys_spark.steps.publishing import Report
from recsys_spark.steps.recommend import recommend_items


class Config(TopKOptions):
    """Keys of recommend_items."""


def run(job: Run, config: Config) -> Report:
    """Make the lists of all users."""
    with job.progress.step("recommend_items"):
        return recommend_items(job, config)


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
