"""The rows of ``[stream]`` as a streaming DataFrame."""

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from recsys_spark.errors import UsageError
from recsys_spark.errors.messages import source_error
from recsys_spark.errors.redaction import remember_secrets
from recsys_spark.lake.paths import spark_path
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.sources import delta_stream, kafka_stream
from recsys_spark.sources.dataset_file import Dataset, Stream
from recsys_spark.sources.delta_stream import DeltaStreamSource
from recsys_spark.sources.kafka_stream import MAX_ROWS, TOPICS, KafkaSource
from recsys_spark.sources.reader import CORRUPT
from recsys_spark.stream.options import StreamOptions

_TEXT_FORMATS = ("json", "csv")

_FILE_FORMATS = (*_TEXT_FORMATS, "parquet", "orc")

_PERMISSIVE = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT}

_FORMATS = (*_FILE_FORMATS, "delta", "kafka")


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
    if dataset.stream.format not in _FORMATS:
        raise UsageError(f"[stream]: format is '{dataset.stream.format}'; give {', '.join(_FORMATS)}")
    if dataset.stream.schema_ is None:
        raise UsageError('[stream]: schema is missing; name the columns, such as schema = "user string, at string"')
    return dataset.stream


def stream_rows(run: Run, stream: Stream, data: str, options: StreamOptions) -> DataFrame:
    """A streaming DataFrame of the rows as they arrive, with malformed records in ``_corrupt_record``.

    Raises:
        UsageError: the schema or an option is wrong.
        InputError: the folder does not exist.
    """
    remember_secrets(stream.options)
    path = f"{data}/{stream.path}"
    try:
        schema = StructType.fromDDL(stream.schema_ or "")
        assert isinstance(schema, StructType)
        if stream.format == "kafka":
            return _messages(run, stream, schema, options.max_messages)
        if stream.format == "delta":
            run.spark.dataSource.register(DeltaStreamSource)
            return run.spark.readStream.format(delta_stream.FORMAT).schema(schema).load(path)
        return _files(run, stream, schema, path, options.max_files)
    except Exception as error:
        user_error = source_error(error, "stream", path)
        if user_error is None:
            raise
        raise user_error from error


def _files(run: Run, stream: Stream, schema: StructType, path: str, most: int) -> DataFrame:
    settings: dict[str, Any] = {"maxFilesPerTrigger": most} | stream.options
    if stream.format in _TEXT_FORMATS:
        schema, settings = _with_corrupt(schema), settings | _PERMISSIVE
    return run.spark.readStream.format(stream.format).schema(schema).options(**settings).load(spark_path(path))


def _messages(run: Run, stream: Stream, schema: StructType, most: int) -> DataFrame:
    """Messages of Kafka, parsed as JSON."""
    run.spark.dataSource.register(KafkaSource)
    settings = stream.options | {TOPICS: stream.path, MAX_ROWS: most}
    messages = run.spark.readStream.format(kafka_stream.FORMAT).options(**settings).load()
    parsed = F.from_json("value", _with_corrupt(schema), _PERMISSIVE)
    return messages.where("value IS NOT NULL").select(parsed.alias("row")).select("row.*")


def _with_corrupt(schema: StructType) -> StructType:
    return StructType([*schema, StructField(CORRUPT, StringType())])
