"""Estimates of online evaluation → a section of a report."""

from pyspark.sql import Row
from pyspark.sql import functions as F

from recsys_spark.report.page import Cell, Section, TableElement
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import ONLINE_METRICS

_MOST_EVALUATIONS = 10

_HEADER = ("run date", "mode", "metric", "estimate", "interval", "users", "effective sample size")


def online(run: Run) -> Section | None:
    """The estimates of the newest evaluations; None if there are none."""
    stored = run.lake.read_or_empty(run.spark, ONLINE_METRICS)
    newest = stored.agg(F.max("evaluation")).collect()[0][0]
    if newest is None:
        return None
    shown = stored.where(F.col("evaluation") > newest - _MOST_EVALUATIONS).orderBy(F.desc("evaluation"), "metric")
    rows: list[list[Cell]] = [
        [str(row["run_date"]), row["mode"], row["metric"], row["estimate"], _interval(row), row["users"], row["ess"]]
        for row in shown.withColumnRenamed("n", "users").collect()  # at most some 10 rows per evaluation
    ]
    caption = f"Estimates of the newest evaluations, at most {_MOST_EVALUATIONS}; the newest first"
    return Section("online", "Online", [TableElement(caption, _HEADER, rows)])


def _interval(row: Row) -> str | None:
    if row["low"] is None:
        return None
    return f"{row['low']:.4f} to {row['high']:.4f} ({100 * row['level']:g} %)"
