"""Rewrite data files without removed rows, in Python workers: the rows that remain never enter the JVM."""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.lake.data_files import file_batches
from recsys_spark.tables.task_stream import ArrowTransform, TaskStats


def files_without(files: DataFrame, removed_keys: DataFrame, key: str) -> DataFrame:
    """``uri, positions``: the rows of each data file whose ``key``, a string, is in ``removed_keys``; null if none is.

    Only keys and positions are shuffled. ``files``: ``uri``.
    """
    schema = pa.schema({key: pa.string()})

    def key_positions(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for uri in (uri for batch in batches for uri in batch["uri"].to_pylist()):
            first = 0
            for rows in file_batches(uri, schema):
                positions = pa.array(np.arange(first, first + rows.num_rows))
                yield pa.RecordBatch.from_arrays(
                    [pa.repeat(uri, rows.num_rows), positions, rows[key]], names=["uri", "position", key]
                )
                first += rows.num_rows

    rows = files.mapInArrow(key_positions, f"uri string, position bigint, {key} string")
    removed = rows.join(removed_keys, on=key, how="left_semi")
    return files.join(removed.groupBy("uri").agg(F.collect_list("position").alias("positions")), on="uri", how="left")


def kept_rows(schema: pa.Schema, constant_columns: Mapping[str, pa.Scalar]) -> ArrowTransform:
    """The transform from ``files_without`` to the rows that remain, in their order.

    ``constant_columns``: new values of columns, the same in every row.
    """

    def transform(batches: Iterator[pa.RecordBatch], _: TaskStats) -> Iterator[pa.RecordBatch]:
        for uri, positions in (pair for batch in batches for pair in zip(*batch.columns, strict=True)):
            removed = np.sort(positions.values.to_numpy()) if positions.is_valid else np.zeros(0, np.int64)
            first = 0
            for rows in file_batches(uri.as_py(), schema):
                low, high = np.searchsorted(removed, [first, first + rows.num_rows])
                remains = np.ones(rows.num_rows, bool)
                remains[removed[low:high] - first] = False
                first += rows.num_rows
                yield _with_values(rows if high == low else rows.filter(pa.array(remains)), constant_columns)

    return transform


def _with_values(rows: pa.RecordBatch, constant_columns: Mapping[str, pa.Scalar]) -> pa.RecordBatch:
    for name, value in constant_columns.items():
        index = rows.schema.get_field_index(name)
        rows = rows.set_column(index, rows.schema.field(index), pa.repeat(value, rows.num_rows))
    return rows
