"""Raw sources to the tables items, users, events and quarantine, as a dataset file says."""

from recsys_spark.job import Run, main
from recsys_spark.options import IngestOptions
from recsys_spark.steps.ingest import ingest_tables
from recsys_spark.steps.publishing import Report


class Config(IngestOptions):
    """Keys of ingest_tables."""


def run(job: Run, config: Config) -> Report:
    """Ingest one dataset."""
    with job.progress.step("ingest_tables"):
        return ingest_tables(job, config)


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
