"""Reading raw inputs: the one place where foreign data enters."""

from pathlib import Path
from urllib.parse import urlparse

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.dataset import Source, TableQuery
from recsys_spark.errors import InputError, UsageError
from recsys_spark.text import fields_of

CORRUPT = "_corrupt_record"
_TEXT_FORMATS = ("csv", "json")
_NESTED = ("array", "map", "struct", "binary")


def absolute(data: str) -> str:
    """``--data`` as every process of a cluster can read it."""
    return data.rstrip("/") if urlparse(data).scheme else str(Path(data).expanduser().absolute())


def read_source(spark: SparkSession, name: str, source: Source, data: str) -> DataFrame:
    """One source, with malformed records kept in ``_corrupt_record`` where the format can tell."""
    path = f"{data}/{source.path}"
    reader = spark.read.format(source.format).options(**source.options)
    if source.format not in _TEXT_FORMATS:
        return (reader.schema(source.schema_) if source.schema_ else reader).load(path)
    # Pruned columns would hide rows with too many or too few fields.
    reader = reader.options(mode="PERMISSIVE", columnNameOfCorruptRecord=CORRUPT, columnPruning=False)
    schema = source.schema_ or _names_as_strings(reader.load(path), name, path)
    return reader.options(enforceSchema=False).schema(f"{schema}, {CORRUPT} string").load(path)


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
