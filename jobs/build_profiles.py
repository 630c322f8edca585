"""Build user profiles: a decayed, weighted sum of the item vectors of each user's events."""

from recsys_spark.profiles.options import ProfileOptions
from recsys_spark.profiles.steps.build_profiles import build_profiles
from recsys_spark.runtime.lifecycle import Job, main

JOB = Job(__file__, __doc__, ProfileOptions, build_profiles)

if __name__ == "__main__":
    main(JOB)
