"""Score how unusual users and items are, with reasons and the trust that their events and texts get."""

from recsys_spark.risk.options import RiskOptions
from recsys_spark.risk.steps.score_risk import score_risk
from recsys_spark.runtime.lifecycle import Job, main

JOB = Job(__file__, __doc__, RiskOptions, score_risk)

if __name__ == "__main__":
    main(JOB)
