"""Print the tables of a lake: versions, rows, sizes, and who published them when."""

from recsys_spark.refresh.options import StatusOptions
from recsys_spark.refresh.steps.lake_status import lake_status
from recsys_spark.runtime.lifecycle import Job, main

JOB = Job(__file__, __doc__, StatusOptions, lake_status, shows_own_steps=True, without_spark=True)

if __name__ == "__main__":
    main(JOB)
