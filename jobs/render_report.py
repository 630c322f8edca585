"""One HTML file that shows a lake: what ran, its data, its vectors, the quality of its lists, and why they are so."""

from recsys_spark.report.steps.render_report import ReportOptions, render_report
from recsys_spark.runtime.lifecycle import Job, main

JOB = Job(__file__, __doc__, ReportOptions, render_report)

if __name__ == "__main__":
    main(JOB)
