"""Similar items: every item against all others, itself left out."""

from recsys_spark.job import Run, main
from recsys_spark.options import NeighborOptions
from recsys_spark.steps.neighbors import find_neighbors
from recsys_spark.steps.publishing import Report


class Config(NeighborOptions):
    """Keys of find_neighbors."""


def run(job: Run, config: Config) -> Report:
    """Make the lists of all items."""
    with job.progress.step("find_neighbors"):
        return find_neighbors(job, config)


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
