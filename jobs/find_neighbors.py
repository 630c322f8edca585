"""Similar items: every item against all others, itself left out."""

from recsys_spark.publish.steps.publishing import Report
from recsys_spark.runtime.lifecycle import Run, main
from recsys_spark.topk.options import NeighborOptions
from recsys_spark.topk.steps.find_neighbors import find_neighbors


class Config(NeighborOptions):
    """Keys of find_neighbors."""


def run(job: Run, config: Config) -> Report:
    """Make the lists of all items."""
    with job.progress.step("find_neighbors"):
        return find_neighbors(job, config)


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
