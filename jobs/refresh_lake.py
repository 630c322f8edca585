"""Refresh the whole lake for one run_date: ingest tables, embed texts, build vectors and profiles, recommend items."""

from recsys_spark.refresh.steps.refresh_lake import RefreshOptions, refresh_lake
from recsys_spark.runtime.lifecycle import Job, main

JOB = Job(__file__, __doc__, RefreshOptions, refresh_lake, shows_own_steps=True)

if __name__ == "__main__":
    main(JOB)
