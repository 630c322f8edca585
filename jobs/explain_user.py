"""One user's log, profile, list and the reasons for it, on the terminal."""

from recsys_spark.explain.steps.explain_user import ExplainUserOptions, explain_user
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.runtime.lifecycle import Run, main


class Config(ExplainUserOptions):
    """Keys of explain_user."""


def run(job: Run, config: Config) -> Report:
    """Explain."""
    return explain_user(job, config)


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
