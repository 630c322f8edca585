"""Segments of users → a section of a report."""

from recsys_spark.report.page import Cell, Section, Share, TableElement
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import SEGMENTS


def segments(run: Run) -> Section | None:
    """The segments, and how much refits agreed with each number of them; None if there are none."""
    last = run.lake.last_commit(SEGMENTS)
    if last is None:
        return None
    stored = run.lake.read(run.spark, SEGMENTS, last.version).collect()  # few by definition
    rows: list[list[Cell]] = [
        [row["segment"], row["name"], row["users"], Share(row["share"]), ", ".join(row["items"])]
        for row in sorted(stored, key=lambda row: row["segment"])
    ]
    table = TableElement(
        f"Segments on {rows and stored[0]['run_date']}", ("id", "name", "users", "share", "items"), rows
    )
    tried = last.outcome.more.get("stability", {})
    agreement: list[list[Cell]] = [
        [int(count), value] for count, value in sorted(tried.items(), key=lambda o: int(o[0]))
    ]
    caption = "Agreement of bootstrap refits with k clusters: mean adjusted Rand index; 1: the same segments"
    return Section("segments", "Segments", [table, TableElement(caption, ("k", "agreement"), agreement)])
