"""Tables of a lake, metadata of their commits, status files of its jobs → one HTML file."""

from collections.abc import Mapping
from typing import Any

from pyarrow.fs import FileSystem
from pydantic import Field
from pyspark.sql import functions as F

from recsys_spark.errors import InputError
from recsys_spark.evaluate.options import MetricOptions
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.report.charts import check_installed
from recsys_spark.report.page import Section, render_page
from recsys_spark.report.steps.data_health import data_health, embedding_space
from recsys_spark.report.steps.drift import drift
from recsys_spark.report.steps.gallery import gallery
from recsys_spark.report.steps.list_quality import fairness, list_metrics, quality
from recsys_spark.report.steps.online import online
from recsys_spark.report.steps.runs import Statuses, fine_tuning, job_runs, statuses
from recsys_spark.report.steps.segments import segments
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import EVENTS, ITEMS, RECOMMENDATIONS, TABLES

_COUNTED_TABLES = ("users", "items", "events", "recommendations")


class ReportOptions(MetricOptions):
    """Report."""

    report_users: int = Field(4, ge=1, description="number of users in the gallery of the report")
    show_ids: bool = Field(False, description="show ids and texts of users in the report instead of a hash of the id")
    report_items: int = Field(1500, ge=20, description="number of items on the map of the report, sampled by a hash")


def render_report(run: Run, options: ReportOptions, last: Mapping[str, Any] | None = None) -> Report:
    """Write the report on the lists for ``run_date``; the returned report names its file.

    ``last``: the status that the calling job will write when it ends.
    """
    check_installed()
    if options.dry_run:
        return {"tables": {}}
    status = statuses(run).with_last(last) if last else statuses(run)
    optional: list[Section | None] = [*_of_lists(run, options, status)]
    optional += [
        segments(run),
        online(run),
        embedding_space(run, options.report_items),
        data_health(run),
        fine_tuning(status),
    ]
    optional.append(job_runs(run, status, str(options.run_date)))
    sections = [section for section in optional if section is not None]
    rows = {name: run.lake.rows(TABLES[name]) for name in _COUNTED_TABLES if run.lake.version(TABLES[name]) is not None}
    lead = f"Lake {run.lake.uri}, run date {options.run_date}."
    figures = [(name.replace("recommendations", "list rows"), number) for name, number in rows.items()]
    uri = f"{run.lake.uri}/_reports/{options.run_date}.html"
    _write(uri, render_page("Recommendation report", lead, sections, figures))
    return {"tables": {}, "report": uri, "sections": [section.name for section in sections]}


def _of_lists(run: Run, options: ReportOptions, status: Statuses) -> list[Section]:
    """The sections about published lists; none in a lake without lists.

    Raises:
        InputError: the lists are of another run date.
    """
    commit = run.lake.last_commit(RECOMMENDATIONS)
    if commit is None or any(run.lake.version(table) is None for table in (ITEMS, EVENTS)):
        return []
    lists = run.lake.read(run.spark, RECOMMENDATIONS, commit.version)
    list_date = lists.agg(F.max("run_date")).collect()[0][0]
    if list_date is not None and list_date != options.run_date:
        raise InputError(
            f"table 'recommendations' holds lists for run_date {list_date}, not for {options.run_date}: "
            f"render_report --run_date={list_date}, or run recommend_items for {options.run_date} first"
        )
    metrics = list_metrics(run, options, lists)
    return [
        gallery(run, lists, options, options.report_users, show_ids=options.show_ids),
        quality(run, options, metrics, status),
        fairness(run, options, metrics, lists),
        drift(run),
    ]


def _write(uri: str, text: str) -> None:
    filesystem, path = FileSystem.from_uri(uri)
    filesystem.create_dir(path.rpartition("/")[0], recursive=True)
    with filesystem.open_output_stream(path) as stream:
        stream.write(text.encode())
