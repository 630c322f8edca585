"""Reading raw inputs: the one place where foreign data enters."""

import json
import re
from collections.abc import Collection, Sequence
from functools import reduce
from typing import Any

from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, DataFrameReader, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StringType, StructField, StructType

from recsys_spark.errors import InputError, RecsysError, UsageError
from recsys_spark.errors.messages import source_error, sql_error
from recsys_spark.errors.redaction import remember_secrets
from recsys_spark.lake.paths import spark_path
from recsys_spark.sources.dataset_file import Source
from recsys_spark.sources.delta import delta_schema
from recsys_spark.sources.files import SourceFile
from recsys_spark.sources.groups import FileGroup, grouped, lower_keys
from recsys_spark.sources.types import aligned, plain_timestamps

CORRUPT = "_corrupt_record"

_TEXT_FORMATS = ("csv", "json")

_FILE_FORMATS = (*_TEXT_FORMATS, "parquet", "orc", "text", "avro", "xml")

_SETTINGS = {
    # shop=007 in the name of a folder is a text, not the number 7.
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
    # Nanoseconds, as pandas writes them, come as numbers; plain_timestamps makes times of them.
    "spark.sql.legacy.parquet.nanosAsLong": "true",
    # All encodings that Java knows, windows-1252 among them.
    "spark.sql.legacy.javaCharsets": "true",
}


def read_source(
    spark: SparkSession,
    name: str,
    source: Source,
    data: str,
    files: Sequence[SourceFile],
    only: Collection[str] | None = None,
) -> DataFrame:
    """One source, with malformed records kept in ``_corrupt_record`` where the format can tell.

    Files of different layouts (order of columns, a column that came later, quotes) are read apart and put together by
    the names of the columns; one that a file lacks is null there.

    Args:
        spark: its session settings for sources are set here.
        name: of the source, for messages.
        source: format, options and schema.
        data: the folder or URI that holds the sources.
        files: all data files of the source, from ``list_sources``.
        only: the paths to read of them; the columns are those of all.

    Raises:
        UsageError: the schema or an option is wrong.
        InputError: a file is not of the format, or its columns are.
    """
    remember_secrets(source.options)
    for setting, value in _SETTINGS.items():
        spark.conf.set(setting, value)
    path, only = f"{data}/{source.path}", None if only is None else frozenset(only)
    try:
        if source.format == "delta":
            return _delta(spark, name, path, files, only)
        if source.format not in _FILE_FORMATS:
            reader = spark.read.format(source.format).options(**source.options)
            return (reader.schema(source.schema_) if source.schema_ else reader).load(path)
        return _of_groups(spark, name, source, files, only)
    except RecsysError:
        raise
    except Exception as error:
        known = source_error(error, name, path)
        if known is None:
            raise
        raise known from error


def knows_its_columns(source: Source) -> bool:
    """Whether the columns of a source are told by its files' headers and footers, without their rows."""
    return bool(source.schema_) or source.format in ("csv", "parquet", "orc", "delta")


def _delta(
    spark: SparkSession, name: str, path: str, files: Sequence[SourceFile], only: Collection[str] | None
) -> DataFrame:
    schema = delta_schema(name, path)
    paths = [file.path for file in files if only is None or file.path in only]
    return _loaded(_reader(spark, "parquet", {"basePath": path}).schema(schema), paths, files[0].path)


def _of_groups(
    spark: SparkSession, name: str, source: Source, files: Sequence[SourceFile], only: Collection[str] | None
) -> DataFrame:
    groups = grouped(name, source, files, lambda: spark)
    schema = _schema_of(name, source)
    read = _text_group if source.format in _TEXT_FORMATS else _typed_group
    frames = [read(spark, name, source, group, schema, only) for group in groups]
    if schema is not None:
        _check_names(name, source, schema, frames)
        frames = [_with_columns_of(frame, schema) for frame in frames]
    return reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), aligned(frames))


def _schema_of(name: str, source: Source) -> StructType | None:
    if not source.schema_:
        return None
    try:
        schema = StructType.fromDDL(source.schema_)
    except PySparkException as error:
        known = sql_error(error, f"[sources.{name}]: schema = {source.schema_!r}")
        if known is None:
            raise
        raise known from error
    assert isinstance(schema, StructType), "several columns make a struct"
    return schema


def _reader(spark: SparkSession, kind: str, options: dict[str, Any]) -> DataFrameReader:
    return spark.read.format(kind).options(**options)


def _text_group(
    spark: SparkSession,
    name: str,
    source: Source,
    group: FileGroup,
    schema: StructType | None,
    only: Collection[str] | None,
) -> DataFrame:
    """Files of CSV or JSON: columns as strings, or as the dataset file's schema says."""
    options = source.options | dict(group.shape.options)
    if group.root:
        options["basePath"] = group.root
    # Pruned columns would hide rows with too many or too few fields.
    reader = _reader(spark, source.format, options).options(
        mode="PERMISSIVE", columnNameOfCorruptRecord=CORRUPT, columnPruning=False
    )
    by_header = group.shape.header is not None
    columns: Sequence[str] = (
        schema.names if schema is not None and not by_header else _columns(reader, name, source, group)
    )
    columns = [column for column in columns if column != CORRUPT]  # inferred where JSON lines are malformed
    if not columns:
        raise InputError(f"source '{name}': {group.files[0]} is empty: not even a header row")
    _check_separator(name, source, group, columns)
    kinds = {field.name.lower(): field.dataType for field in schema or []}
    fields = [StructField(column, kinds.get(column.lower(), StringType())) for column in columns]
    # Where the header is known, no file of the group has another: Spark need not compare it with names that it has
    # made up itself, as it does for a column without a name.
    reader = reader.schema(StructType([*fields, StructField(CORRUPT, StringType())])).option("enforceSchema", by_header)
    return _loaded(reader, _chosen(group, only), group.files[0])


def _check_separator(name: str, source: Source, group: FileGroup, columns: Sequence[str]) -> None:
    """One column whose name holds the separators of other countries and tools is a row that was not taken apart."""
    found = re.search(r"[;\t|]", columns[0]) if len(columns) == 1 and group.shape.header is not None else None
    if found and not {"sep", "delimiter"} & lower_keys(source).keys():
        raise UsageError(
            f"source '{name}': the header row of {group.files[0]} is one column, {columns[0]!r}. In the dataset file, "
            f"set options.sep = {json.dumps(found[0])}"
        )


def _columns(reader: DataFrameReader, name: str, source: Source, group: FileGroup) -> list[str]:
    try:
        return reader.load(
            [spark_path(file) for file in (group.files if source.format == "json" else group.files[:1])]
        ).columns
    except AnalysisException as error:
        if error.getCondition() != "COLUMN_ALREADY_EXISTS":
            raise
        twice = (error.getMessageParameters() or {}).get("columnName", "one of them")
        raise UsageError(
            f"source '{name}': in {source.path} the key {twice} is written in several ways (sku, SKU), which are one "
            f'to Spark. In the dataset file, name the keys to read: schema = "… string, …"'
        ) from error


def _typed_group(
    spark: SparkSession,
    name: str,
    source: Source,
    group: FileGroup,
    schema: StructType | None,
    only: Collection[str] | None,
) -> DataFrame:
    """Files of a format that knows its types."""
    nanoseconds = [column for column, kind in group.columns if kind.startswith("timestamp[ns")]
    reader = _reader(spark, source.format, source.options | ({"basePath": group.root} if group.root else {}))
    if schema is not None:
        known = {column.lower() for column in [*(column for column, _ in group.columns), *group.partitions]}
        fields = [field for field in schema if not group.columns or field.name.lower() in known]
        wide = {column.lower() for column in nanoseconds}
        reader = reader.schema(StructType([
            StructField(field.name, LongType() if field.name.lower() in wide else field.dataType) for field in fields
        ]))  # fmt: skip
    frame = _loaded(reader, _chosen(group, only), group.files[0])
    return plain_timestamps(frame, [column for column in frame.columns if column in nanoseconds])


def _loaded(reader: DataFrameReader, paths: list[str], any_file: str) -> DataFrame:
    """The rows of the files; without files none, but the columns."""
    if not paths:
        return reader.load(spark_path(any_file)).where(F.lit(False))
    return reader.load(list(map(spark_path, paths)))


def _chosen(group: FileGroup, only: Collection[str] | None) -> list[str]:
    return list(group.files) if only is None else [file for file in group.files if file in only]


def _check_names(name: str, source: Source, schema: StructType, frames: Sequence[DataFrame]) -> None:
    there = {column.lower() for frame in frames for column in frame.columns}
    absent = [column for column in schema.names if column.lower() not in there]
    if absent:
        shown = ", ".join(column for column in frames[0].columns if column != CORRUPT)
        raise UsageError(
            f"dataset file, [sources.{name}]: schema names {', '.join(absent)}, which no file of {source.path} has. "
            f"Columns there: {shown}"
        )


def _with_columns_of(frame: DataFrame, schema: StructType) -> DataFrame:
    """The columns of a schema, null where the files lack one; and those of folders' names."""
    there = {column.lower() for column in frame.columns}
    absent = {field.name: F.lit(None).cast(field.dataType) for field in schema if field.name.lower() not in there}
    return frame.withColumns(absent) if absent else frame


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
