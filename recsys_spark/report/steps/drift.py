"""What is new since the last version of the tables → a section of a report."""

from collections.abc import Sequence
from typing import Any

from pyspark.sql import functions as F

from recsys_spark.lake.lake import Commit
from recsys_spark.report.aggregates import list_drift
from recsys_spark.report.page import Block, Cell, Note, Section, Share, TableBlock
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import CHANGES, ITEM_VECTORS, RECOMMENDATIONS, USER_PROFILES, Table

_AUDITED = (ITEM_VECTORS, USER_PROFILES, RECOMMENDATIONS)

_FIGURES = {
    "rows": "rows",
    "mean_norm": "mean length of vectors",
    "mean_cosine": "mean cosine of two vectors",
    "coverage": "share of the catalogue in lists",
    "changed_lists": "share of lists that changed",
}

_SHARES = ("coverage", "changed_lists")

_CHANGES = 15

_PAST = 50


def drift(run: Run) -> Section:
    """What the gate has measured and let pass, what is left of the last lists, what every version has changed."""
    blocks: list[Block] = []
    figures: list[list[Cell]] = []
    for table in _AUDITED:
        heads = [head for head in run.lake.commits(table, _PAST) if head.outcome.figures is not None]
        figures += _figures(table, heads[:2])
        blocks += [
            Note(f"Accepted by --accept_drift: table '{table.name}', {fault}.")
            for fault in ((heads[0].outcome.accepted_drift or ()) if heads else ())
        ]
    if figures:
        caption = "What is audited before a version is published: this one and the last one that was"
        blocks.append(TableBlock(caption, ("table", "figure", "last", "now"), figures))
    blocks.append(_lists(run))
    log = run.lake.read_or_empty(run.spark, CHANGES).orderBy(F.desc("run_date"), "table", F.desc("rows"))
    if rows := log.limit(_CHANGES).collect():
        told = [[row["run_date"] and str(row["run_date"]), *tuple(row)[1:]] for row in rows]
        blocks.append(TableBlock("What the newest versions changed (recommendations: lists)", _header(), told))
    return Section("drift", "Drift", blocks)


def _header() -> Sequence[str]:
    return [name.replace("_", " ") for name in CHANGES.columns]


def _figures(table: Table, heads: Sequence[Commit]) -> list[list[Cell]]:
    now, was = ([head.outcome.figures or {} for head in heads] + [{}, {}])[:2]
    return [
        [table.name, told, *(_shown(name, figures.get(name)) for figures in (was, now))]
        for name, told in _FIGURES.items()
        if name in now
    ]


def _shown(name: str, value: Any) -> Cell:
    if value is None:
        return None
    return Share(value) if name in _SHARES else int(value) if name == "rows" else float(value)


def _lists(run: Run) -> Block:
    """The published lists against the last ones that were others."""
    now, *past = run.lake.commits(RECOMMENDATIONS, _PAST)
    last = next((head for head in past if not (head.content and head.content == now.content)), None)
    if last is None:
        return Note("There are no earlier lists in this lake to compare with.")
    if not run.lake.can_read(RECOMMENDATIONS, last.version):
        return Note(f"The earlier lists, version {last.version}, have been vacuumed.")
    was = run.lake.read(run.spark, RECOMMENDATIONS, last.version)
    then = was.agg(F.max("run_date")).collect()[0][0]
    row = list_drift(run.lake.read(run.spark, RECOMMENDATIONS, now.version), was).collect()[0]
    told: list[list[Cell]] = [
        ["users with a list in both", row["users"]],
        ["share of a list that was in the last one", None if row["kept"] is None else Share(row["kept"])],
        ["users whose list has the same items", row["same"]],
        ["users who are new", row["new_users"]],
        ["users who had a list and have none", row["lost_users"]],
    ]
    caption = f"Version {now.version} of the lists against version {last.version}, made for {then}"
    return TableBlock(caption, ("what", "how much"), told)
