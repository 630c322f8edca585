"""Reading raw inputs: the one place where foreign data enters."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, DataFrameReader, SparkSession
from pyspark.sql import functions as F

from recsys_spark.dataset import Source, TableQuery
from recsys_spark.errors import InputError, UsageError
from recsys_spark.text import fields_of

CORRUPT = "_corrupt_record"
_TEXT_FORMATS = ("csv", "json")
_NARROW = {"Project", "Filter", "SubqueryAlias", "View", "LogicalRelation", "Relation", "HadoopFsRelation"}
_NESTED = ("array", "map", "struct", "binary")


def absolute(data: str) -> str:
    """``--data`` as every process of a cluster can read it."""
    return data.rstrip("/") if urlparse(data).scheme else str(Path(data).expanduser().absolute())


def read_source(
    spark: SparkSession, name: str, source: Source, data: str, files: Sequence[str] | None = None
) -> DataFrame:
    """One source, with malformed records kept in ``_corrupt_record`` where the format can tell.

    ``files``: only these of it, with the columns that it has as a whole.
    """
    path = f"{data}/{source.path}"
    reader = spark.read.format(source.format).options(**source.options)
    if source.format not in _TEXT_FORMATS:
        whole = (reader.schema(source.schema_) if source.schema_ else reader).load(path)
        return whole if files is None else _some(reader.schema(whole.schema), whole, path, files)
    # Pruned columns would hide rows with too many or too few fields.
    reader = reader.options(mode="PERMISSIVE", columnNameOfCorruptRecord=CORRUPT, columnPruning=False)
    schema = source.schema_ or _names_as_strings(reader.load(path), name, path)
    reader = reader.options(enforceSchema=False).schema(f"{schema}, {CORRUPT} string")
    whole = reader.load(path)
    return whole if files is None else _some(reader, whole, path, files)


def knows_its_columns(source: Source) -> bool:
    """Whether a part of the files tells the columns that Spark would give the whole of them."""
    return bool(source.schema_) or source.format in ("csv", "parquet", "orc")


def is_row_by_row(frame: DataFrame) -> bool:
    """Whether each row of a query comes from one row of one source, whatever the other rows are."""
    plan = frame._jdf.queryExecution().analyzed()
    return bool(plan.deterministic()) and plan.subqueriesAll().isEmpty() and _is_narrow(plan)


def _is_narrow(plan: Any) -> bool:
    children = plan.children()
    return str(plan.nodeName()) in _NARROW and all(_is_narrow(children.apply(n)) for n in range(children.size()))


def _some(reader: DataFrameReader, whole: DataFrame, path: str, files: Sequence[str]) -> DataFrame:
    if not files:
        return whole.where(F.lit(False))
    if files[0] != path and not any(mark in path for mark in "*?[{"):
        reader = reader.option("basePath", path)  # or what the names of its folders say would be lost
    return reader.load(list(files))


def well_formed(frame: DataFrame) -> DataFrame:
    """The records that could be parsed."""
    return frame.where(F.col(CORRUPT).isNull()).drop(CORRUPT) if CORRUPT in frame.columns else frame


def malformed(frame: DataFrame, name: str) -> DataFrame | None:
    """The records that could not, as quarantine rows; None for formats that fail as a whole instead."""
    if CORRUPT not in frame.columns:
        return None
    bad = frame.where(F.col(CORRUPT).isNotNull())
    # The parsed columns ride along: Spark refuses a query on the corrupt column alone.
    whole = F.to_json(F.struct(*(F.col(f"`{column}`") for column in frame.columns)))
    return bad.select(
        F.lit(f"source {name}").alias("table"), F.lit("malformed record").alias("reason"), whole.alias("row")
    )


def query(spark: SparkSession, table: str, ask: TableQuery, required: list[str], optional: list[str]) -> DataFrame:
    """Run a table's query over the sources, registered as views, and state its columns.

    Raises:
        UsageError: a column is missing in ``select``, or an expression names something the sources do not have.
    """
    missing = [c for c in (*required, *fields_of(ask.text)) if c not in ask.select]
    if missing:
        raise UsageError(
            f"dataset file, [{table}.select]: missing {', '.join(missing)}; a template's fields are selected too"
        )
    asked = {*required, *optional} - {"category"}  # a path or set of names
    columns = ", ".join(f"{expression} AS `{name}`" for name, expression in ask.select.items())
    where = f" WHERE {ask.where}" if ask.where else ""
    try:
        frame = spark.sql(f"SELECT {columns} FROM {ask.from_}{where}")
    except AnalysisException as error:
        raise UsageError(
            f"dataset file, table '{table}': {str(error).split(' SQLSTATE')[0].splitlines()[0]}"
        ) from error
    nested = [f"{name} is {kind}" for name, kind in frame.dtypes if name in asked and kind.startswith(_NESTED)]
    if nested:
        raise UsageError(f"dataset file, table '{table}': {', '.join(nested)}, but one plain value is wanted")
    absent = [F.lit(None).cast("string").alias(c) for c in optional if c not in ask.select]
    return frame.select("*", *absent)


def _names_as_strings(header: DataFrame, name: str, path: str) -> str:
    names = [column for column in header.columns if column != CORRUPT]  # inferred where JSON lines are malformed
    if not names:
        raise InputError(f"source '{name}': {path} is empty: not even a header row")
    return ", ".join(f"`{column}` string" for column in names)
