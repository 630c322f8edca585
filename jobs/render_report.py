"""One HTML file that shows a lake: what ran, its data, its vectors, the quality of its lists, and why they are so."""

from recsys_spark.publish.steps.publishing import Report
from recsys_spark.report.steps.render_report import ReportOptions, render_report
from recsys_spark.runtime.lifecycle import Run, main


class Config(ReportOptions):
    """Keys of render_report."""


def run(job: Run, config: Config) -> Report:
    """Render."""
    with job.progress.step("render_report"):
        return render_report(job, config)


if __name__ == "__main__":
    main(__file__, Config, run, __doc__)
