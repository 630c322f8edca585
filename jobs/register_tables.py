"""Print SQL that registers the tables of a lake in a catalogue: Unity, Hive, Glue, Trino or DuckDB."""

from recsys_spark.catalog.options import CatalogOptions
from recsys_spark.catalog.steps.register_tables import register_tables
from recsys_spark.runtime.lifecycle import Job, main

JOB = Job(__file__, __doc__, CatalogOptions, register_tables, shows_own_steps=True, without_spark=True)

if __name__ == "__main__":
    main(JOB)
