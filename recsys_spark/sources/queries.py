"""The SQL of dataset files: what is asked of the sources, and whether the answer depends on one row at a time."""

import re
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.errors import UsageError
from recsys_spark.errors.messages import sql_error
from recsys_spark.sources.dataset_file import TableQuery
from recsys_spark.sources.reader import well_formed

FIELD = re.compile(r"\{(\w+)\}")
"""A field of a text template."""

RUN_DATE = "run_date"
"""The parameter ``:run_date`` of the SQL in dataset files."""

_NARROW = {"Project", "Filter", "SubqueryAlias", "View", "LogicalRelation", "Relation", "HadoopFsRelation", "Union"}

_CLOCKS = {"CurrentDate", "CurrentTimestamp", "CurrentTime", "LocalTimestamp", "Now", "CurrentBatchTimestamp"}

_NESTED = ("array", "map", "struct", "binary")


def register(frame: DataFrame, name: str) -> None:
    """Make the well-formed records of a source a view of its name, in whatever characters."""
    well_formed(frame).createOrReplaceTempView(quoted(name))


def quoted(name: str) -> str:
    """A name as SQL takes it, in whatever characters."""
    return "`" + name.replace("`", "``") + "`"


def query(
    spark: SparkSession,
    table: str,
    ask: TableQuery,
    required: list[str],
    optional: list[str],
    run_date: date | None = None,
) -> DataFrame:
    """Run a table's query over the sources, registered as views, and state its columns. ``:run_date`` in it is the day
    of the run.

    Raises:
        UsageError: a column is missing in ``select``, an expression names something the sources do not have, or one
            reads the clock of the machine.
    """
    missing = [c for c in (*required, *fields_of(ask.text)) if c not in ask.select]
    if missing:
        raise UsageError(
            f"dataset file, [{table}.select]: missing {', '.join(missing)}; a template's fields are selected too"
        )
    columns = ", ".join(f"{expression} AS `{name}`" for name, expression in ask.select.items())
    where = f" WHERE {ask.where}" if ask.where else ""
    origin = quoted(ask.from_) if re.fullmatch(r"[\w.-]*[-.][\w.-]*", ask.from_) else ask.from_
    try:
        frame = spark.sql(f"SELECT {columns} FROM {origin}{where}", args={RUN_DATE: run_date})
    except PySparkException as error:
        known = sql_error(error, f"table '{table}'")
        if known is None:
            raise
        raise known from error
    if clocks := _clocks(frame._jdf.queryExecution().analyzed()):
        raise UsageError(
            f"dataset file, table '{table}': {', '.join(sorted(clocks))} reads the clock of the machine, so the same "
            "files would give other rows tomorrow. run_date is the only clock: write :run_date, the day of the run"
        )
    asked = {*required, *optional} - {"category", "title"}  # which may be arrays
    nested = [f"{name} is {kind}" for name, kind in frame.dtypes if name in asked and kind.startswith(_NESTED)]
    if nested:
        raise UsageError(f"dataset file, table '{table}': {', '.join(nested)}, but one plain value is wanted")
    absent = [F.lit(None).cast("string").alias(c) for c in optional if c not in ask.select]
    return frame.select("*", *absent)


def is_row_by_row(frame: DataFrame) -> bool:
    """Whether each row of a query comes from one row of one source, whatever the other rows are."""
    plan = frame._jdf.queryExecution().analyzed()
    return bool(plan.deterministic()) and plan.subqueriesAll().isEmpty() and _is_narrow(plan)


def _is_narrow(plan: Any) -> bool:
    return str(plan.nodeName()) in _NARROW and all(map(_is_narrow, _scala(plan.children())))


def _scala(sequence: Any) -> Iterable[Any]:
    return (sequence.apply(number) for number in range(sequence.size()))


def _clocks(plan: Any) -> set[str]:
    """Names of the functions in a plan that read the clock of the machine."""
    inner = [found for part in (plan.children(), plan.subqueries()) for node in _scala(part) for found in _clocks(node)]
    return {*inner, *(name for expression in _scala(plan.expressions()) for name in _clocks_of(expression))}


def _clocks_of(expression: Any) -> set[str]:
    own = {str(expression.prettyName())} if str(expression.getClass().getSimpleName()) in _CLOCKS else set()
    return own.union(*(_clocks_of(child) for child in _scala(expression.children())))


def fields_of(template: Sequence[str]) -> list[str]:
    """The fields that a template names, each once, in order."""
    return list(dict.fromkeys(FIELD.findall(" ".join(template))))
