"""Print one user's event log, profile, list and the reasons for it."""

from recsys_spark.explain.steps.explain_user import ExplainUserOptions, explain_user
from recsys_spark.runtime.lifecycle import Job, main

JOB = Job(__file__, __doc__, ExplainUserOptions, explain_user, shows_own_steps=True)

if __name__ == "__main__":
    main(JOB)
