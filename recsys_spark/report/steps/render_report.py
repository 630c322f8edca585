"""The tables of a lake, the metadata of their commits and the status of its jobs → one HTML file."""

from collections.abc import Mapping
from typing import Any

from pyarrow.fs import FileSystem
from pydantic import Field
from pyspark.sql import functions as F

from recsys_spark.errors import InputError
from recsys_spark.evaluate.options import MetricOptions
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.report.charts import check_installed
from recsys_spark.report.page import Section, page
from recsys_spark.report.steps.data_health import data_health, embedding_space
from recsys_spark.report.steps.drift import drift
from recsys_spark.report.steps.list_quality import fairness, gallery, list_metrics, quality
from recsys_spark.report.steps.runs import Statuses, fine_tuning, statuses, what_ran
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import EVENTS, ITEMS, RECOMMENDATIONS, TABLES

_COUNTED = ("users", "items", "events", "recommendations")


class ReportOptions(MetricOptions):
    """What a report shows."""

    report_users: int = Field(4, ge=1, description="report: users in the gallery")
    show_ids: bool = Field(False, description="report: ids and texts of users, not a hash of the id")
    report_items: int = Field(1500, ge=20, description="report: items on the map, picked by a hash")


def render_report(run: Run, options: ReportOptions, last: Mapping[str, Any] | None = None) -> Report:
    """Write the page of the lists for ``run_date`` and say where it is.

    ``last``: what the job that calls this will leave as its status.
    """
    check_installed()
    if options.dry_run:
        return {"tables": {}}
    found = statuses(run).with_last(last) if last else statuses(run)
    sections: list[Section | None] = [*_of_lists(run, options, found)]
    sections += [embedding_space(run, options.report_items), data_health(run), fine_tuning(found)]
    sections.append(what_ran(run, found, str(options.run_date)))
    told = [section for section in sections if section is not None]
    rows = {name: run.lake.rows(TABLES[name]) for name in _COUNTED if run.lake.version(TABLES[name]) is not None}
    lead = f"Lake {run.lake.uri}, run date {options.run_date}."
    figures = [(name.replace("recommendations", "rows of lists"), number) for name, number in rows.items()]
    uri = f"{run.lake.uri}/_reports/{options.run_date}.html"
    _write(uri, page("What was recommended, and why", lead, told, figures))
    return {"tables": {}, "report": uri, "sections": [section.name for section in told]}


def _of_lists(run: Run, options: ReportOptions, found: Statuses) -> list[Section]:
    """What needs lists; nothing in a lake of evaluations."""
    head = run.lake.last_commit(RECOMMENDATIONS)
    if head is None or any(run.lake.version(table) is None for table in (ITEMS, EVENTS)):
        return []
    lists = run.lake.read(run.spark, RECOMMENDATIONS, head.version)
    made = lists.agg(F.max("run_date")).collect()[0][0]
    if made is not None and made != options.run_date:
        raise InputError(
            f"table 'recommendations' holds lists for run_date {made}, not for {options.run_date}: "
            f"render_report --run_date={made}, or run recommend_items for {options.run_date} first"
        )
    judgement = list_metrics(run, options, lists)
    return [
        gallery(run, lists, options, options.report_users, show_ids=options.show_ids),
        quality(run, options, judgement, found),
        fairness(run, options, judgement, lists),
        drift(run),
    ]


def _write(uri: str, text: str) -> None:
    filesystem, path = FileSystem.from_uri(uri)
    filesystem.create_dir(path.rpartition("/")[0], recursive=True)
    with filesystem.open_output_stream(path) as stream:
        stream.write(text.encode())
