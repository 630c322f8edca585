"""The rows of ``[stream]`` as a streaming DataFrame."""

from pyspark.sql import DataFrame
from pyspark.sql.types import StringType, StructField, StructType

from recsys_spark.errors import UsageError
from recsys_spark.errors.redaction import remember_secrets
from recsys_spark.lake.paths import spark_path
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.sources.dataset_file import Dataset, Stream
from recsys_spark.sources.reader import CORRUPT

_TEXT_FORMATS = ("json", "csv")

_FILE_FORMATS = (*_TEXT_FORMATS, "parquet", "orc")


def stream_of(dataset: Dataset, name: str) -> Stream:
    """The stream of a dataset file.

    Raises:
        UsageError: there is none, or the events are not read from one source, which it could take the place of.
    """
    if dataset.stream is None:
        raise UsageError(
            f"dataset file {name} has no [stream]: add [stream] with path, format and schema, such as "
            'path = "arriving", format = "json", schema = "user string, sku string, at string"'
        )
    if dataset.events.source not in dataset.sources:
        raise UsageError(
            f"dataset file {name}: [events] reads '{dataset.events.from_}', which is not one source; rows of [stream] "
            "take the place of the source that [events] reads"
        )
    if dataset.stream.format not in _FILE_FORMATS:
        raise UsageError(f"[stream]: format is '{dataset.stream.format}'; give {', '.join(_FILE_FORMATS)}")
    if dataset.stream.schema_ is None:
        raise UsageError('[stream]: schema is missing; name the columns, such as schema = "user string, at string"')
    return dataset.stream


def stream_rows(run: Run, stream: Stream, data: str, max_files: int) -> DataFrame:
    """A streaming DataFrame of the rows as they arrive, with malformed records in ``_corrupt_record``."""
    remember_secrets(stream.options)
    schema = StructType.fromDDL(stream.schema_ or "")
    assert isinstance(schema, StructType)
    options = {"maxFilesPerTrigger": max_files} | stream.options
    if stream.format in _TEXT_FORMATS:
        schema = StructType([*schema, StructField(CORRUPT, StringType())])
        options |= {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT}
    reader = run.spark.readStream.format(stream.format).schema(schema).options(**options)
    return reader.load(spark_path(f"{data}/{stream.path}"))
