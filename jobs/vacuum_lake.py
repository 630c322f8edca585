"""Remove old versions of all tables and what killed runs left behind."""

from recsys_spark.job import Run, main
from recsys_spark.refresh_options import VacuumOptions
from recsys_spark.steps.publishing import Report
from recsys_spark.steps.vacuum import vacuum_lake


class Config(VacuumOptions):
    """Keys of vacuum_lake."""


def run(job: Run, config: Config) -> Report:
    """Run the step."""
    return vacuum_lake(job, config)


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
