"""A real model on real data: MovieLens 100K and MiniLM, from raw files to lists a person can read."""

from recsys_spark.demo.steps.demo import DemoOptions, demo
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.runtime.lifecycle import Run, main


class Config(DemoOptions):
    """Keys of demo."""


def run(job: Run, config: Config) -> Report:
    """Show what the package does."""
    return demo(job, config)


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
