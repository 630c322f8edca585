"""Remove replaced versions of all tables, files of killed runs and unused item blocks."""

from recsys_spark.refresh.options import VacuumOptions
from recsys_spark.refresh.steps.vacuum_lake import vacuum_lake
from recsys_spark.runtime.lifecycle import Job, main

JOB = Job(__file__, __doc__, VacuumOptions, vacuum_lake, shows_own_steps=True)

if __name__ == "__main__":
    main(JOB)
