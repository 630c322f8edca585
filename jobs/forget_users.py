"""Remove users, or items, from every table, every file and every later refresh; prints a proof."""

from recsys_spark.job import Run, main
from recsys_spark.refresh_options import ForgetOptions
from recsys_spark.steps.forget import forget_users
from recsys_spark.steps.publishing import Report


class Config(ForgetOptions):
    """Keys of forget_users."""


def run(job: Run, config: Config) -> Report:
    """Run the step."""
    return forget_users(job, config)


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
