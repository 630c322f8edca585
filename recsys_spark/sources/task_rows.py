"""Rows that tasks of Python read as Arrow, where Spark has no reader of its own."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from recsys_spark.errors import InputError, RetryError
from recsys_spark.errors.messages import is_transient, one_line
from recsys_spark.errors.redaction import redacted
from recsys_spark.sources.arrow_types import arrow_schema

_TASK_BYTES = 2**27
"""Bytes of files that a task reads, as Spark's own readers do; a larger file is read by one task."""


def rows_of_tasks(
    spark: SparkSession,
    parts: Sequence[Any],
    read: Callable[[Any, pa.Schema], Iterator[pa.RecordBatch]],
    schema: StructType,
    what: str,
) -> DataFrame:
    """The rows of all ``parts``, each read by a task of its own: ``read(part, arrow_schema)`` gives batches with the
    columns of ``schema`` in their order.

    A store that does not answer, or a file that is damaged or no longer there, becomes an error about ``what``.
    """
    if not parts:
        return spark.createDataFrame([], schema)
    # A function of more than 1 MB is written to a file of the driver. Without the parts this one is small.
    shared = spark.sparkContext.broadcast(list(parts))
    reading = partial(_batches, parts=shared, read=read, schema=arrow_schema(schema), what=what)
    return spark.range(0, len(parts), 1, len(parts)).mapInArrow(reading, schema)


def _batches(
    numbers: Iterator[pa.RecordBatch],
    parts: Any,
    read: Callable[[Any, pa.Schema], Iterator[pa.RecordBatch]],
    schema: pa.Schema,
    what: str,
) -> Iterator[pa.RecordBatch]:
    for number in (number for batch in numbers for number in batch["id"].to_pylist()):
        try:
            yield from read(parts.value[number], schema)
        except (OSError, pa.ArrowException) as error:
            kind = RetryError if is_transient(error) else InputError
            raise kind(f"{what} cannot be read: {redacted(one_line(error))}") from None


def packed(sizes: Sequence[int]) -> list[slice]:
    """Runs of consecutive files, given by their sizes in bytes, that a task reads together."""
    starts, filled = [0], 0
    for number, size in enumerate(sizes):
        if filled and filled + size > _TASK_BYTES:
            starts.append(number)
            filled = 0
        filled += size
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(sizes)], strict=True)]
