"""Show the tables of an earlier night again, by new commits that name their files."""

from recsys_spark.refresh.options import RestoreOptions
from recsys_spark.refresh.steps.restore_lake import restore_lake
from recsys_spark.runtime.lifecycle import Job, main

JOB = Job(__file__, __doc__, RestoreOptions, restore_lake, without_spark=True)

if __name__ == "__main__":
    main(JOB)
