"""Render one HTML file about a lake: list quality, reasons, fairness, drift, vectors, data and job runs."""

from recsys_spark.report.steps.render_report import ReportOptions, render_report
from recsys_spark.runtime.lifecycle import Job, main

JOB = Job(__file__, __doc__, ReportOptions, render_report)

if __name__ == "__main__":
    main(JOB)
