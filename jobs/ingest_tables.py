"""Raw sources to the tables items, users, events and quarantine, as a dataset file says."""

from recsys_spark.ingest.options import IngestOptions
from recsys_spark.ingest.steps.ingest_tables import ingest_tables
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.runtime.lifecycle import Run, main


class Config(IngestOptions):
    """Keys of ingest_tables."""


def run(job: Run, config: Config) -> Report:
    """Ingest one dataset."""
    with job.progress.step("ingest_tables"):
        return ingest_tables(job, config)


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
