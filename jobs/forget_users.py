"""Remove users or items from every table, every file and every later refresh, and print a proof."""

from recsys_spark.privacy.options import ForgetOptions
from recsys_spark.privacy.steps.forget_users import forget_users
from recsys_spark.runtime.lifecycle import Job, main

JOB = Job(__file__, __doc__, ForgetOptions, forget_users, shows_own_steps=True)

if __name__ == "__main__":
    main(JOB)
