"""User profiles: each user's events as one decayed, weighted sum of item vectors."""

from recsys_spark.profiles.options import ProfileOptions
from recsys_spark.profiles.steps.build_profiles import build_profiles
from recsys_spark.runtime.lifecycle import Job, main

JOB = Job(__file__, __doc__, ProfileOptions, build_profiles)

if __name__ == "__main__":
    main(JOB)
