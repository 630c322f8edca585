"""Remove old versions of all tables and what killed runs left behind."""

from recsys_spark.publish.steps.publishing import Report
from recsys_spark.refresh.options import VacuumOptions
from recsys_spark.refresh.steps.vacuum_lake import vacuum_lake
from recsys_spark.runtime.lifecycle import Run, main


class Config(VacuumOptions):
    """Keys of vacuum_lake."""


def run(job: Run, config: Config) -> Report:
    """Run the step."""
    return vacuum_lake(job, config)


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
