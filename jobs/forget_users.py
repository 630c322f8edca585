"""Remove users, or items, from every table, every file and every later refresh; prints a proof."""

from recsys_spark.privacy.options import ForgetOptions
from recsys_spark.privacy.steps.forget_users import forget_users
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.runtime.lifecycle import Run, main


class Config(ForgetOptions):
    """Keys of forget_users."""


def run(job: Run, config: Config) -> Report:
    """Run the step."""
    return forget_users(job, config)


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
