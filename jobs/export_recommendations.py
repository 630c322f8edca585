"""Export lists to Redis, PostgreSQL or a folder, or item vectors to pgvector: only what has changed."""

from recsys_spark.export.options import ExportOptions
from recsys_spark.export.steps.export_recommendations import export_recommendations
from recsys_spark.runtime.lifecycle import Job, main

JOB = Job(__file__, __doc__, ExportOptions, export_recommendations)

if __name__ == "__main__":
    main(JOB)
