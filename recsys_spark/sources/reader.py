"""Read raw sources: the one place where foreign data enters."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, cast

from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, DataFrameReader, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StringType, StructField, StructType

from recsys_spark.errors import InputError, RecsysError, UsageError
from recsys_spark.errors.messages import source_error, sql_error
from recsys_spark.errors.redaction import remember_secrets
from recsys_spark.lake.paths import spark_path
from recsys_spark.sources.dataset_file import SESSION_TABLE, Dataset, Source
from recsys_spark.sources.files import SourceFile
from recsys_spark.sources.groups import FileGroup, FileInspector, lower_keys
from recsys_spark.sources.listing import FileListing, Listing, Part, TableListing
from recsys_spark.sources.names import named_columns
from recsys_spark.sources.types import aligned, plain_timestamps

CORRUPT = "_corrupt_record"

_TEXT_FORMATS = ("csv", "json")

_FILE_FORMATS = (*_TEXT_FORMATS, "parquet", "orc", "text", "avro", "xml")

_STATED = ("csv", "parquet", "orc", "delta", "iceberg", "postgres", "jdbc", SESSION_TABLE)

_SETTINGS = {
    # shop=007 in the name of a folder is a text, not the number 7.
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
    # Nanoseconds, as pandas writes them, arrive as numbers; plain_timestamps converts them to timestamps.
    "spark.sql.legacy.parquet.nanosAsLong": "true",
    # All encodings that Java knows, windows-1252 among them.
    "spark.sql.legacy.javaCharsets": "true",
}


class SourceReader:
    """Reads the sources of one run below ``data``, a folder or URI. Each file is inspected once."""

    def __init__(self, spark: SparkSession, data: str, dataset: Dataset | None = None) -> None:
        """Reading sets the session settings for sources in ``spark``. ``dataset``: of tables that tasks of Python read,
        its queries need some columns alone."""
        self._spark, self._data, self._dataset = spark, data, dataset
        self._inspector = FileInspector(lambda: spark)

    def read(self, name: str, source: Source, listing: Listing, part: Part | None = None) -> DataFrame:
        """One source, with malformed records in ``_corrupt_record`` where the format can tell them apart.

        Files of different layouts (order of columns, a column that was added later, quotes) are read separately and
        combined by the names of their columns. A column that a file lacks is null there.

        Args:
            name: of the source, for messages.
            source: format, options and schema.
            listing: of the source, from ``list_sources``.
            part: the rows to read, from ``listing.added``; the columns are those of all rows.

        Raises:
            UsageError: the schema or an option is wrong.
            InputError: a file is not of the format, or the columns of the files do not fit together.
        """
        remember_secrets(source.options)
        for setting, value in _SETTINGS.items():
            self._spark.conf.set(setting, value)
        place = source.place(self._data)
        try:
            if not isinstance(listing, FileListing):
                wanted = list if self._dataset is None else partial(named_columns, dataset=self._dataset, source=name)
                return cast(TableListing, listing).frame(self._spark, part, wanted)
            if source.format not in _FILE_FORMATS:
                reader = self._spark.read.format(source.format).options(**source.options)
                return (reader.schema(source.schema_) if source.schema_ else reader).load(place)
            only = None if part is None else frozenset(part.content)
            return self._union_of_groups(name, source, listing.files, only)
        except RecsysError:
            raise
        except Exception as error:
            user_error = source_error(error, name, place)
            if user_error is None:
                raise
            raise user_error from error

    def _union_of_groups(
        self, name: str, source: Source, files: Sequence[SourceFile], only: frozenset[str] | None
    ) -> DataFrame:
        groups = self._inspector.groups(name, source, files)
        schema = _schema_of(name, source)
        frames = [_GroupReader(self._spark, name, source, schema, only, group).frame() for group in groups]
        if schema is not None:
            _check_names(name, source, schema, frames)
            frames = [_with_columns_of(frame, schema) for frame in frames]
        return reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), aligned(frames))


@dataclass(frozen=True)
class _GroupReader:
    """Reads the files of one group. ``schema``: that of the dataset file; ``only``: the paths to read, None for all."""

    spark: SparkSession
    name: str
    source: Source
    schema: StructType | None
    only: frozenset[str] | None
    group: FileGroup

    def frame(self) -> DataFrame:
        """The rows of the selected files, with the columns of the group."""
        return self._text() if self.source.format in _TEXT_FORMATS else self._typed()

    def _text(self) -> DataFrame:
        """Files of CSV or JSON: columns as strings, or of the types in the dataset file's schema."""
        # Pruned columns would hide rows with too many or too few fields.
        reader = self._reader(dict(self.group.shape.options)).options(
            mode="PERMISSIVE", columnNameOfCorruptRecord=CORRUPT, columnPruning=False
        )
        by_header = self.group.shape.header is not None
        columns = self.schema.names if self.schema is not None and not by_header else self._columns(reader)
        columns = [column for column in columns if column != CORRUPT]  # inferred where JSON lines are malformed
        if not columns:
            raise InputError(f"source '{self.name}': {self.group.files[0]} is empty: not even a header row")
        self._check_separator(columns)
        kinds = {field.name.lower(): field.dataType for field in self.schema or []}
        fields = [StructField(column, kinds.get(column.lower(), StringType())) for column in columns]
        fields.append(StructField(CORRUPT, StringType()))
        # All files of the group have this header, if there is one. Spark need not compare it with the names given here,
        # some of which Spark invented, as it does for a column without a name.
        return self._load(reader.schema(StructType(fields)).option("enforceSchema", by_header))

    def _typed(self) -> DataFrame:
        """Files of a format that states types."""
        nanoseconds = [column for column, kind in self.group.columns if kind.startswith("timestamp[ns")]
        reader = self._reader({})
        if self.schema is not None:
            present = {column.lower() for column in [*dict(self.group.columns), *self.group.partitions]}
            fields = [field for field in self.schema if not self.group.columns or field.name.lower() in present]
            wide = {column.lower() for column in nanoseconds}
            reader = reader.schema(StructType([
                StructField(field.name, LongType() if field.name.lower() in wide else field.dataType)
                for field in fields
            ]))  # fmt: skip
        frame = self._load(reader)
        return plain_timestamps(frame, [column for column in frame.columns if column in nanoseconds])

    def _reader(self, detected: dict[str, Any]) -> DataFrameReader:
        options = self.source.options | detected | ({"basePath": self.group.root} if self.group.root else {})
        return self.spark.read.format(self.source.format).options(**options)

    def _load(self, reader: DataFrameReader) -> DataFrame:
        files = self.group.files
        return _load(reader, [file for file in files if self.only is None or file in self.only], files[0])

    def _columns(self, reader: DataFrameReader) -> list[str]:
        files = self.group.files if self.source.format == "json" else self.group.files[:1]
        try:
            return reader.load(list(map(spark_path, files))).columns
        except AnalysisException as error:
            if error.getCondition() != "COLUMN_ALREADY_EXISTS":
                raise
            key = (error.getMessageParameters() or {}).get("columnName", "one of them")
            raise UsageError(
                f"source '{self.name}': in {self.source.path} the key {key} is spelled in several ways (sku, SKU), "
                'which Spark treats as one. In the dataset file, name the keys to read: schema = "… string, …"'
            ) from error

    def _check_separator(self, columns: Sequence[str]) -> None:
        """Refuse a header row that is one column and holds another common separator."""
        is_single = len(columns) == 1 and self.group.shape.header is not None
        separator = re.search(r"[;\t|]", columns[0]) if is_single else None
        if separator and not {"sep", "delimiter"} & lower_keys(self.source).keys():
            raise UsageError(
                f"source '{self.name}': the header row of {self.group.files[0]} is one column, {columns[0]!r}. In the "
                f"dataset file, set options.sep = {json.dumps(separator[0])}"
            )


def has_stated_columns(source: Source) -> bool:
    """Whether the schema, or headers and footers of the files, state the columns, so that no row has to be read."""
    return bool(source.schema_) or source.format in _STATED


def _schema_of(name: str, source: Source) -> StructType | None:
    if not source.schema_:
        return None
    try:
        schema = StructType.fromDDL(source.schema_)
    except PySparkException as error:
        user_error = sql_error(error, f"[sources.{name}]: schema = {source.schema_!r}")
        if user_error is None:
            raise
        raise user_error from error
    assert isinstance(schema, StructType), "several columns make a struct"
    return schema


def _load(reader: DataFrameReader, paths: list[str], any_file: str) -> DataFrame:
    """The rows of the files ``paths``; no rows, but the columns of ``any_file``, if there are no paths."""
    if not paths:
        return reader.load(spark_path(any_file)).where(F.lit(False))
    return reader.load(list(map(spark_path, paths)))


def _check_names(name: str, source: Source, schema: StructType, frames: Sequence[DataFrame]) -> None:
    present = {column.lower() for frame in frames for column in frame.columns}
    absent = [column for column in schema.names if column.lower() not in present]
    if absent:
        columns = ", ".join(column for column in frames[0].columns if column != CORRUPT)
        raise UsageError(
            f"dataset file, [sources.{name}]: schema names {', '.join(absent)}, which no file of {source.path} has. "
            f"Columns there: {columns}"
        )


def _with_columns_of(frame: DataFrame, schema: StructType) -> DataFrame:
    """``frame`` with all columns of ``schema``, null where the files lack one, and its partition columns."""
    present = {column.lower() for column in frame.columns}
    absent = {field.name: F.lit(None).cast(field.dataType) for field in schema if field.name.lower() not in present}
    return frame.withColumns(absent) if absent else frame


def well_formed(frame: DataFrame) -> DataFrame:
    """The records that could be parsed."""
    return frame.where(F.col(CORRUPT).isNull()).drop(CORRUPT) if CORRUPT in frame.columns else frame


def malformed(frame: DataFrame, name: str) -> DataFrame | None:
    """The records that could not be parsed, as rows of quarantine; None for formats that fail as a whole instead."""
    if CORRUPT not in frame.columns:
        return None
    bad = frame.where(F.col(CORRUPT).isNotNull())
    # The parsed columns are selected too: Spark refuses a query on the corrupt column alone.
    whole = F.to_json(F.struct(*(F.col(f"`{column}`") for column in frame.columns)))
    return bad.select(
        F.lit(f"source {name}").alias("table"), F.lit("malformed record").alias("reason"), whole.alias("row")
    )
