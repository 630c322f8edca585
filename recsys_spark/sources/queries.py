"""Run the SQL of dataset files over the sources, and tell whether its result depends on one row at a time."""

import re
from collections.abc import Sequence
from datetime import date
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.errors import UsageError
from recsys_spark.errors.messages import sql_error
from recsys_spark.lake.jvm import analyzed_plan, elements
from recsys_spark.sources.dataset_file import TableQuery
from recsys_spark.sources.reader import well_formed

FIELD = re.compile(r"\{(\w+)\}")
"""A field of a text template."""

RUN_DATE = "run_date"
"""The parameter ``:run_date`` of the SQL in dataset files."""

_NARROW = {"Project", "Filter", "SubqueryAlias", "View", "LogicalRelation", "Relation", "HadoopFsRelation", "Union",
           "MapInArrow", "Range"}  # fmt: skip
"""Operators that keep rows apart. The last two are sources that tasks of Python read: no SQL makes a MapInArrow."""

_CLOCKS = {"CurrentDate", "CurrentTimestamp", "CurrentTime", "LocalTimestamp", "Now", "CurrentBatchTimestamp"}

_NESTED = ("array", "map", "struct", "binary")


def register(frame: DataFrame, name: str) -> None:
    """Register the well-formed records of a source as a temporary view; ``name`` may hold any characters."""
    well_formed(frame).createOrReplaceTempView(quoted(name))


def quoted(name: str) -> str:
    """``name`` quoted for SQL."""
    return "`" + name.replace("`", "``") + "`"


def query(
    spark: SparkSession,
    table: str,
    definition: TableQuery,
    required: list[str],
    optional: list[str],
    run_date: date | None = None,
) -> DataFrame:
    """Run the query of a table over the registered sources; its columns, and null for missing ``optional`` ones.

    ``:run_date`` in the SQL stands for the day of the run.

    Raises:
        UsageError: ``select`` lacks a column, an expression names something that the sources do not have, reads the
            clock of the machine, or gives a nested value.
    """
    missing = [c for c in (*required, *fields_of(definition.text)) if c not in definition.select]
    if missing:
        raise UsageError(
            f"dataset file, [{table}.select]: missing {', '.join(missing)}; select the fields of the text template too"
        )
    columns = ", ".join(f"{expression} AS `{name}`" for name, expression in definition.select.items())
    where = f" WHERE {definition.where}" if definition.where else ""
    is_plain = re.fullmatch(r"[\w.-]*[-.][\w.-]*", definition.from_)
    origin = quoted(definition.from_) if is_plain else definition.from_
    try:
        frame = spark.sql(f"SELECT {columns} FROM {origin}{where}", args={RUN_DATE: run_date})
    except PySparkException as error:
        user_error = sql_error(error, f"table '{table}'")
        if user_error is None:
            raise
        raise user_error from error
    if clocks := clocks_of_plan(analyzed_plan(frame)):
        raise UsageError(
            f"dataset file, table '{table}': {', '.join(sorted(clocks))} reads the clock of the machine, so the same "
            "files would give other rows tomorrow. run_date is the only clock: write :run_date, the day of the run"
        )
    plain = {*required, *optional} - {"category", "title"}  # these two may be arrays
    nested = [f"{name} is {kind}" for name, kind in frame.dtypes if name in plain and kind.startswith(_NESTED)]
    if nested:
        raise UsageError(f"dataset file, table '{table}': {', '.join(nested)}, but must be one plain value")
    absent = [F.lit(None).cast("string").alias(c) for c in optional if c not in definition.select]
    return frame.select("*", *absent)


def is_row_by_row(frame: DataFrame) -> bool:
    """Whether each row of a query comes from one row of one source, independent of all other rows."""
    plan = analyzed_plan(frame)
    return bool(plan.deterministic()) and plan.subqueriesAll().isEmpty() and _is_narrow(plan)


def _is_narrow(plan: Any) -> bool:
    return str(plan.nodeName()) in _NARROW and all(map(_is_narrow, elements(plan.children())))


def clocks_of_plan(plan: Any) -> set[str]:
    """Names of the functions in a plan that read the clock of the machine."""
    nodes = [node for part in (plan.children(), plan.subqueries()) for node in elements(part)]
    inner = [name for node in nodes for name in clocks_of_plan(node)]
    return {*inner, *(name for expression in elements(plan.expressions()) for name in _clocks_in(expression))}


def _clocks_in(expression: Any) -> set[str]:
    is_clock = str(expression.getClass().getSimpleName()) in _CLOCKS
    names = {str(expression.prettyName())} if is_clock else set()
    return names.union(*(_clocks_in(child) for child in elements(expression.children())))


def fields_of(template: Sequence[str]) -> list[str]:
    """The distinct fields of a template, in order."""
    return list(dict.fromkeys(FIELD.findall(" ".join(template))))
