"""Changes since the last version of the tables → a section of a report."""

from collections.abc import Sequence
from typing import Any

from pyspark.sql import functions as F

from recsys_spark.lake.lake import Commit
from recsys_spark.report.aggregates import list_drift
from recsys_spark.report.page import Cell, Element, Note, Section, Share, TableElement
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import CHANGES, ITEM_VECTORS, RECOMMENDATIONS, USER_PROFILES, Table

_AUDITED = (ITEM_VECTORS, USER_PROFILES, RECOMMENDATIONS)

_FIGURES = {
    "rows": "rows",
    "mean_norm": "mean vector norm",
    "mean_cosine": "mean cosine of two vectors",
    "coverage": "catalogue coverage of lists",
    "changed_lists": "share of changed lists",
}

_SHARES = ("coverage", "changed_lists")

_MOST_CHANGES = 15

_MOST_COMMITS = 50


def drift(run: Run) -> Section:
    """Audit figures and accepted drift, overlap with the last lists, and changes by version."""
    elements: list[Element] = []
    figures: list[list[Cell]] = []
    for table in _AUDITED:
        commits = [one for one in run.lake.commits(table, _MOST_COMMITS) if one.outcome.figures is not None]
        figures += _figures(table, commits[:2])
        elements += [
            Note(f"Accepted by --accept_drift: table '{table.name}', {fault}.")
            for fault in ((commits[0].outcome.accepted_drift or ()) if commits else ())
        ]
    if figures:
        caption = "Audit figures of the current version and of the one before"
        elements.append(TableElement(caption, ("table", "figure", "before", "now"), figures))
    elements.append(_lists(run))
    log = run.lake.read_or_empty(run.spark, CHANGES).orderBy(F.desc("run_date"), "table", F.desc("rows"))
    if rows := log.limit(_MOST_CHANGES).collect():
        changes = [[row["run_date"] and str(row["run_date"]), *tuple(row)[1:]] for row in rows]
        elements.append(
            TableElement("Rows changed by the newest versions (recommendations: lists)", _header(), changes)
        )
    return Section("drift", "Drift", elements)


def _header() -> Sequence[str]:
    return [name.replace("_", " ") for name in CHANGES.columns]


def _figures(table: Table, commits: Sequence[Commit]) -> list[list[Cell]]:
    now, was = ([commit.outcome.figures or {} for commit in commits] + [{}, {}])[:2]
    return [
        [table.name, label, *(_cell(name, figures.get(name)) for figures in (was, now))]
        for name, label in _FIGURES.items()
        if name in now
    ]


def _cell(name: str, value: Any) -> Cell:
    if value is None:
        return None
    return Share(value) if name in _SHARES else int(value) if name == "rows" else float(value)


def _lists(run: Run) -> Element:
    """The published lists against the last version with other lists."""
    now, *past = run.lake.commits(RECOMMENDATIONS, _MOST_COMMITS)
    last = next((one for one in past if not (one.content and one.content == now.content)), None)
    if last is None:
        return Note("This lake has no earlier lists to compare with.")
    if not run.lake.can_read(RECOMMENDATIONS, last.version):
        return Note(f"The earlier lists, version {last.version}, have been vacuumed.")
    was = run.lake.read(run.spark, RECOMMENDATIONS, last.version)
    last_date = was.agg(F.max("run_date")).collect()[0][0]
    row = list_drift(run.lake.read(run.spark, RECOMMENDATIONS, now.version), was).collect()[0]
    overlap: list[list[Cell]] = [
        ["users with a list in both versions", row["users"]],
        ["mean share of a list that was in the last one", None if row["overlap"] is None else Share(row["overlap"])],
        ["users with the same items", row["same"]],
        ["users with a list only now", row["new_users"]],
        ["users with a list only before", row["lost_users"]],
    ]
    caption = f"Lists: version {now.version} against version {last.version} (run date {last_date})"
    return TableElement(caption, ("figure", "value"), overlap)
