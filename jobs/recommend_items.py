"""Recommendations: the blockwise cosine Top-K join of profiles and items, seen items left out."""

from recsys_spark.publish.steps.publishing import Report
from recsys_spark.recommend.options import TopKOptions
from recsys_spark.recommend.steps.recommend_items import recommend_items
from recsys_spark.runtime.lifecycle import Run, main


class Config(TopKOptions):
    """Keys of recommend_items."""


def run(job: Run, config: Config) -> Report:
    """Make the lists of all users."""
    with job.progress.step("recommend_items"):
        return recommend_items(job, config)


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
