"""The whole chain for one run_date: ingest, embed, vectors, profiles, recommendations."""

from recsys_spark.publish.steps.publishing import Report
from recsys_spark.refresh.steps.refresh_lake import RefreshOptions, refresh_lake
from recsys_spark.runtime.lifecycle import Run, main


class Config(RefreshOptions):
    """Keys of refresh_lake."""


def run(job: Run, config: Config) -> Report:
    """Refresh the lake."""
    return refresh_lake(job, config)


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
