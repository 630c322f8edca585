"""Make a new lake with the tables of another one, in seconds where both are on one disk."""

from recsys_spark.refresh.options import CloneOptions
from recsys_spark.refresh.steps.clone_lake import clone_lake
from recsys_spark.runtime.lifecycle import Job, main

JOB = Job(__file__, __doc__, CloneOptions, clone_lake, without_spark=True)

if __name__ == "__main__":
    main(JOB)
