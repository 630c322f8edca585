"""Ingest raw sources into the tables items, users, user_rules, events and quarantine, as a dataset file says."""

from recsys_spark.ingest.options import IngestOptions
from recsys_spark.ingest.steps.ingest_tables import ingest_tables
from recsys_spark.runtime.lifecycle import Job, main

JOB = Job(__file__, __doc__, IngestOptions, ingest_tables)

if __name__ == "__main__":
    main(JOB)
