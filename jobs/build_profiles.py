"""User profiles: each user's events as one decayed, weighted sum of item vectors."""

from recsys_spark.profiles.options import ProfileOptions
from recsys_spark.profiles.steps.build_profiles import build_profiles
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.runtime.lifecycle import Run, main


class Config(ProfileOptions):
    """Keys of build_profiles."""


def run(job: Run, config: Config) -> Report:
    """Build the profiles of all users."""
    with job.progress.step("build_profiles"):
        return build_profiles(job, config)


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
