"""User profiles: each user's events as one decayed, weighted sum of item vectors."""

from recsys_spark.job import Run, main
from recsys_spark.options import ProfileOptions
from recsys_spark.steps.profiles import build_profiles
from recsys_spark.steps.publishing import Report


class Config(ProfileOptions):
    """Keys of build_profiles."""


def run(job: Run, config: Config) -> Report:
    """Build the profiles of all users."""
    with job.progress.step("build_profiles"):
        return build_profiles(job, config)


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
