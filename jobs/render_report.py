"""One HTML file that shows a lake: what ran, its data, its vectors, the quality of its lists, and why they are so."""

from recsys_spark.job import Run, main
from recsys_spark.steps.publishing import Report
from recsys_spark.steps.report import ReportOptions, render_report


class Config(ReportOptions):
    """Keys of render_report."""


def run(job: Run, config: Config) -> Report:
    """Render."""
    with job.progress.step("render_report"):
        return render_report(job, config)


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
