"""Publish profiles, mean profiles of groups or users of items with noise, under differential privacy with a budget."""

from recsys_spark.privacy.options import ReleaseOptions
from recsys_spark.privacy.steps.export_profiles import export_profiles
from recsys_spark.runtime.lifecycle import Job, main

JOB = Job(__file__, __doc__, ReleaseOptions, export_profiles)

if __name__ == "__main__":
    main(JOB)
