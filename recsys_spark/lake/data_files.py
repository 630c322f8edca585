"""The data files of a table: tasks write them, and readers see none before the driver's commit names it."""

import json
import uuid
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from recsys_spark.arrays.arrow import matrix, unit_vectors
from recsys_spark.lake.jvm import has_class
from recsys_spark.lake.paths import spark_path
from recsys_spark.tables.digest import DIGEST
from recsys_spark.tables.schemas import LISTS, VECTORS, Table
from recsys_spark.tables.task_stream import ArrowTransform, TaskStats

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

ROW_GROUP_ROWS = 16_384

FILE_DDL = "path string, bytes bigint, rows bigint, stats string, digest bigint, notes string"

_FILE_SCHEMA = pa.schema(
    {
        "path": pa.string(),
        "bytes": pa.int64(),
        "rows": pa.int64(),
        "stats": pa.string(),
        "digest": pa.int64(),
        "notes": pa.string(),
    }
)

_CONNECTOR = "org.apache.hadoop.fs.s3a.S3AFileSystem"


def read_files(spark: "SparkSession", table: Table, uris: list[str]) -> "DataFrame":
    """Read exactly these files, without listing folders or guessing a schema. pyarrow reads files on S3 where Spark has
    no connector for them."""
    if not uris:
        return no_rows(spark, table)
    if uris[0].startswith("s3://"):
        if not has_class(spark, _CONNECTOR):
            rows = spark.createDataFrame([(uri,) for uri in uris], "uri string").repartition(len(uris))
            return rows.mapInArrow(partial(stored_batches, schema=table.arrow_schema), table.ddl)
        uris = ["s3a://" + uri.removeprefix("s3://") for uri in uris]
    return spark.read.schema(table.ddl).parquet(*map(spark_path, uris))


def no_rows(spark: "SparkSession", table: Table) -> "DataFrame":
    """An empty relation that the optimizer prunes: joins with it read nothing."""
    from pyspark.sql import functions as F

    columns = (F.lit(None).cast(kind).alias(name) for name, kind in table.columns.items())
    return spark.range(1).where(F.lit(False)).select(*columns)


def stored_batches(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of the data files in the column ``uri``, in their order."""
    for uri in (uri for batch in batches for uri in batch["uri"].to_pylist()):
        yield from file_batches(uri, schema)


def file_batches(uri: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of a data file in their order, with the columns of ``schema``. A column that the file lacks, because it
    is older, is null, as when Spark reads the file."""
    filesystem, path = FileSystem.from_uri(uri)
    with filesystem.open_input_file(path) as stream:
        file = pq.ParquetFile(stream, page_checksum_verification=True)
        stored = [name for name in schema.names if name in file.schema_arrow.names]
        missing = [field for field in schema if field.name not in stored]
        for batch in file.iter_batches(ROW_GROUP_ROWS, columns=stored):
            rows = pa.Table.from_batches([batch])
            for field in missing:
                rows = rows.append_column(field, pa.nulls(batch.num_rows, field.type))
            yield from rows.select(schema.names).cast(schema).to_batches()


def first_row(uris: list[str], schema: pa.Schema) -> dict[str, Any] | None:
    """The first row of these files with the columns of ``schema``, read in this process; None if they have no rows.

    Raises:
        FileNotFoundError: a file is missing.
    """
    rows = (row for uri in uris for batch in file_batches(uri, schema) for row in batch.slice(0, 1).to_pylist())
    return next(rows, None)


def write_files(
    batches: Iterator[pa.RecordBatch],
    transform: ArrowTransform | None,
    uri: str,
    schema: pa.Schema,
    keys: list[str],
    checks: frozenset[str] = frozenset(),
) -> Iterator[pa.RecordBatch]:
    """Write all rows of a task to one file, whose name no other attempt can have. A failed attempt removes its file.

    ``keys``: columns whose bounds the commit records. ``checks``: ``Table.checks``.
    """
    stats: TaskStats = {}
    file = DataFile(uri, schema, keys)
    vectors = VectorSums() if VECTORS in checks else None
    lists = ListFaults() if LISTS in checks else None
    try:
        for batch in transform(batches, stats) if transform else batches:
            file.add(batch)
            for check in (vectors, lists):
                if check is not None:
                    check.add(batch)
        row = file.close()
    except BaseException:
        file.remove()
        raise
    if vectors is not None and row["path"]:
        stats["vectors"] = vectors.sums()
    if lists is not None and row["path"]:
        stats["list_faults"] = lists.counts()
    if row["path"] or stats:
        yield pa.RecordBatch.from_pylist([row | {"notes": json.dumps(stats)}], _FILE_SCHEMA)


class DataFile:
    """One Parquet file, created with its first row."""

    def __init__(self, uri: str, schema: pa.Schema, keys: list[str]) -> None:
        self._filesystem, folder = FileSystem.from_uri(uri)
        self._name = f"part-{uuid.uuid4().hex}.parquet"
        self._path, self._schema, self._bounds = f"{folder}/{self._name}", schema, Bounds(keys)
        self._writer: pq.ParquetWriter | None = None
        self._rows, self._digest = 0, None

    def add(self, batch: pa.RecordBatch) -> None:
        """Write a batch. The column DIGEST is summed instead of written."""
        if not batch.num_rows:
            return
        if DIGEST in batch.schema.names:
            with np.errstate(over="ignore"):
                self._digest = np.add.reduce(batch[DIGEST].to_numpy(), initial=np.int64(self._digest or 0))
            batch = batch.drop_columns([DIGEST])
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._path,
                self._schema,
                filesystem=self._filesystem,
                compression="zstd",
                use_dictionary=[field.name for field in self._schema if field.type == pa.string()],
                write_page_checksum=True,
            )
        chunk = pa.Table.from_batches([batch]).cast(self._schema)
        self._writer.write_table(chunk, row_group_size=ROW_GROUP_ROWS)
        self._rows += chunk.num_rows
        self._bounds.add(chunk)

    def close(self) -> dict[str, Any]:
        """The file's row of ``FILE_DDL``, for the commit. It has no path if there were no rows."""
        row: dict[str, Any] = {"path": None, "bytes": None, "rows": self._rows, "stats": None, "digest": self._digest}
        if self._writer is None:
            return row
        self._writer.close()
        size = self._filesystem.get_file_info(self._path).size
        stats = json.dumps({"numRecords": self._rows, **self._bounds.as_stats()})
        return row | {"path": self._name, "bytes": size, "stats": stats}

    def remove(self) -> None:
        """Remove the file of a failed attempt. One that cannot be removed is an orphan, which vacuum removes."""
        with suppress(OSError, pa.ArrowException):
            if self._writer is not None:
                self._writer.close()
        with suppress(OSError, pa.ArrowException):
            self._filesystem.delete_file(self._path)


class VectorSums:
    """Sums over the vectors of a task, for the audit."""

    def __init__(self) -> None:
        self._number = self._unusable = 0
        self._norm, self._direction = 0.0, np.zeros(1)

    def add(self, batch: pa.RecordBatch) -> None:
        """Add the vectors of a batch to the sums."""
        if not batch.num_rows:
            return
        rows, units = unit_vectors(batch["embedding"])
        self._number += len(rows)
        self._unusable += batch.num_rows - len(rows)
        if len(rows):
            vectors = matrix(pa.chunked_array([batch["embedding"].take(pa.array(rows))])).astype(np.float64)
            self._norm += float(np.sqrt(np.einsum("ij,ij->i", vectors, vectors)).sum())
            self._direction = self._direction + units.sum(axis=0, dtype=np.float64)

    def sums(self) -> dict[str, Any]:
        """``number`` of vectors with a direction, number of ``unusable`` others, sum of their norms (``norm``) and of
        their unit vectors (``direction``)."""
        direction = self._direction.round(9).tolist()
        return {"number": self._number, "unusable": self._unusable, "norm": self._norm, "direction": direction}


class ListFaults:
    """Count the faults of lists that come in the order of users and ranks: scores that are not numbers, a score above
    the one before it, an item twice."""

    def __init__(self) -> None:
        self._open_list: list[pa.RecordBatch] = []
        self._faults = dict.fromkeys(("not_a_number", "not_in_order", "twice"), 0)

    def add(self, batch: pa.RecordBatch) -> None:
        """Count the faults of all lists but the last, which may continue in the next batch."""
        if batch.num_rows:
            rows = pa.Table.from_batches([*self._open_list, batch.select(["user_id", "item_id", "score"])])
            rows = rows.combine_chunks()
            users = rows["user_id"]
            is_last = pc.equal(users, users[-1]).to_numpy()
            first = int(len(is_last) - np.argmin(is_last[::-1])) if not is_last.all() else 0
            self._count(rows.slice(0, first))
            self._open_list = rows.slice(first).to_batches()

    def counts(self) -> dict[str, int]:
        """The number of faults by kind."""
        if self._open_list:
            self._count(pa.Table.from_batches(self._open_list))
            self._open_list = []
        return self._faults

    def _count(self, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        users, items = (
            rows[name].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False).astype(np.int64)
            for name in ("user_id", "item_id")
        )
        scores = rows["score"].to_numpy()
        self._faults["not_a_number"] += int(np.isnan(scores).sum())
        self._faults["not_in_order"] += int(((users[1:] == users[:-1]) & (scores[1:] > scores[:-1])).sum())
        self._faults["twice"] += len(rows) - len(np.unique(users * (items.max() + 1) + items))


class Bounds:
    """Minimum and maximum of the key columns, with which any Delta reader can skip files."""

    def __init__(self, keys: list[str]) -> None:
        self._keys, self._low, self._high = keys, dict[str, Any](), dict[str, Any]()

    def add(self, chunk: pa.Table) -> None:
        for key in self._keys:
            bounds = pc.min_max(chunk[key]).as_py()
            self._low[key] = min(bounds["min"], self._low.get(key, bounds["min"]))
            self._high[key] = max(bounds["max"], self._high.get(key, bounds["max"]))

    def as_stats(self) -> dict[str, Any]:
        return {"minValues": self._low, "maxValues": self._high, "nullCount": dict.fromkeys(self._keys, 0)}
