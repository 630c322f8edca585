"""Stored rows that stand, written anew file by file: none of them passes the JVM for the sake of those that go."""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.lake.data_files import file_batches
from recsys_spark.tables.task_stream import ArrowTransform, TaskStats


def files_without(files: DataFrame, gone: DataFrame, key: str) -> DataFrame:
    """``uri, positions``: of each data file the rows whose ``key``, a string, is in ``gone``; null where none is.

    Only keys and positions are shuffled. ``files``: ``uri``.
    """
    schema = pa.schema({key: pa.string()})

    def places(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for uri in (uri for batch in batches for uri in batch["uri"].to_pylist()):
            first = 0
            for rows in file_batches(uri, schema):
                where = pa.array(np.arange(first, first + rows.num_rows))
                yield pa.RecordBatch.from_arrays(
                    [pa.repeat(uri, rows.num_rows), where, rows[key]], names=["uri", "position", key]
                )
                first += rows.num_rows

    found = files.mapInArrow(places, f"uri string, position bigint, {key} string")
    going = found.join(gone, on=key, how="left_semi").groupBy("uri").agg(F.collect_list("position").alias("positions"))
    return files.join(going, on="uri", how="left")


def kept_rows(schema: pa.Schema, constant_columns: Mapping[str, pa.Scalar]) -> ArrowTransform:
    """The rows left of the files of ``files_without``, in their order.

    ``constant_columns`` gives a column one value in every row.
    """

    def make(batches: Iterator[pa.RecordBatch], _: TaskStats) -> Iterator[pa.RecordBatch]:
        for uri, positions in (pair for batch in batches for pair in zip(*batch.columns, strict=True)):
            going = np.sort(positions.values.to_numpy()) if positions.is_valid else np.zeros(0, np.int64)
            first = 0
            for rows in file_batches(uri.as_py(), schema):
                low, high = np.searchsorted(going, [first, first + rows.num_rows])
                stands = np.ones(rows.num_rows, bool)
                stands[going[low:high] - first] = False
                first += rows.num_rows
                yield _stamped(rows if high == low else rows.filter(pa.array(stands)), constant_columns)

    return make


def _stamped(rows: pa.RecordBatch, constant_columns: Mapping[str, pa.Scalar]) -> pa.RecordBatch:
    for name, value in constant_columns.items():
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(place), pa.repeat(value, rows.num_rows))
    return rows
