"""Write a copy of a lake with an injected attack, and the truth beside it."""

from recsys_spark.risk.options import AttackOptions
from recsys_spark.risk.steps.simulate_attacks import simulate_attacks
from recsys_spark.runtime.lifecycle import Job, main

JOB = Job(__file__, __doc__, AttackOptions, simulate_attacks)

if __name__ == "__main__":
    main(JOB)
