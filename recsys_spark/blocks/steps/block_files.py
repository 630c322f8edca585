"""Write, open and remove the files of item blocks."""

import json
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow.fs import FileSelector, FileSystem, FileType
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from recsys_spark.arrays.arrow import as_lists, matrix, slices, unit_vectors
from recsys_spark.arrays.vectors import Matrix
from recsys_spark.blocks.item_blocks import CENTROIDS_FILE, ROW_COLUMNS, RULE_COLUMNS, ItemBlocks
from recsys_spark.blocks.kernels.spherical_kmeans import nearest_rows
from recsys_spark.errors import UsageError
from recsys_spark.lake.whole_files import write_whole
from recsys_spark.runtime.task import partition

_PARTITIONS, _POSITION_BITS = 255, 24
"""An ordinal is 8 bits of partition and 24 bits of position in it, and ascends with item_id."""

_FILE_DDL = "sort_key bigint, path string, rows bigint, dimension int, boosts bigint, dates bigint"

_FILE_SCHEMA = pa.schema(
    {
        "sort_key": pa.int64(),
        "path": pa.string(),
        "rows": pa.int64(),
        "dimension": pa.int32(),
        "boosts": pa.int64(),
        "dates": pa.int64(),
    }
)

_MANIFEST, _USED = "blocks.json", "used"

_HOUR = 3_600_000_000_000  # ns


def write_item_blocks(
    items: DataFrame,
    uri: str,
    block_rows: int,
    *,
    tasks: int,
    centroids: Matrix | None = None,
    extra_columns: Mapping[str, str] | None = None,
) -> ItemBlocks:
    """Write ``item_id, embedding`` and any of RULE_COLUMNS as blocks of at most ``block_rows`` items below ``uri``.

    Items whose vector has no direction (null, NaN, zero) are left out. With ``extra_columns`` (name to Spark type) such
    items are written too, with a vector of zeros, because the extra columns score them. Rows are in the order of
    item_id; where items have a ``match_key``, or with ``centroids`` (unit rows), in the order of key and nearest
    centroid.
    """
    filesystem, folder = FileSystem.from_uri(uri)
    filesystem.create_dir(folder, recursive=True)
    tasks = min(tasks, _PARTITIONS)
    rules = [F.col(n) if n in items.columns else F.lit(None).cast(kind).alias(n) for n, kind in RULE_COLUMNS.items()]
    ordered = items.select("item_id", *rules, *(extra_columns or {}), "embedding").where(F.size("embedding") > 0)
    ordered = ordered.repartitionByRange(tasks, "item_id").sortWithinPartitions("item_id")
    row_columns = {**ROW_COLUMNS, **(extra_columns or {}), "embedding": "array<float>"}
    number, write = _number(centroids, list(row_columns), bool(extra_columns)), _write(uri, block_rows)
    if centroids is None and "match_key" not in items.columns:
        files = ordered.mapInArrow(lambda batches: write(number(batches)), _FILE_DDL)
    else:
        numbered = ordered.mapInArrow(number, ", ".join(f"{name} {kind}" for name, kind in row_columns.items()))
        order = ("match_key", "cluster", "ordinal")  # by ranges: one key may be most of the catalogue
        grouped = numbered.repartitionByRange(tasks, *order).sortWithinPartitions(*order)
        files = grouped.mapInArrow(write, _FILE_DDL)
    ordered_files = sorted(files.collect(), key=lambda file: file["sort_key"])  # one row per block
    return _with_manifest(uri, ordered_files, block_rows, centroids)


def _with_manifest(uri: str, files: list[Row], block_rows: int, centroids: Matrix | None) -> ItemBlocks:
    """Describe the written files and store centroids and manifest next to them."""
    dimensions = sorted({file["dimension"] for file in files})
    if len(dimensions) > 1:
        raise UsageError(
            f"one table has vectors of {dimensions[0]} and of {dimensions[-1]} dimensions: it mixes two models"
        )
    blocks = ItemBlocks(
        uri,
        tuple(file["path"] for file in files),
        sum(file["rows"] for file in files),
        dimensions[0] if dimensions else 0,
        block_rows=block_rows,
        clusters=0 if centroids is None else len(centroids),
        boosted=any(file["boosts"] for file in files),
        dated=any(file["dates"] for file in files),
    )
    filesystem, folder = FileSystem.from_uri(uri)
    if centroids is not None:
        with filesystem.open_output_stream(f"{folder}/{CENTROIDS_FILE}") as file:
            np.save(file, centroids)
    # Written last: a folder that has a manifest is complete.
    write_whole(filesystem, f"{folder}/{_MANIFEST}", json.dumps(asdict(blocks) | {"uri": ""}).encode())
    return blocks


def open_item_blocks(uri: str) -> ItemBlocks | None:
    """Open the blocks that an earlier run wrote below ``uri``; None if there are none, or not all of them."""
    filesystem, folder = FileSystem.from_uri(uri)
    if filesystem.get_file_info(f"{folder}/{_MANIFEST}").type != FileType.File:
        return None
    with filesystem.open_input_file(f"{folder}/{_MANIFEST}") as file:
        manifest = json.loads(file.read())
    return ItemBlocks(**manifest | {"uri": uri, "paths": tuple(manifest["paths"])})


def mark_used(uri: str) -> int:
    """Mark the blocks below ``uri`` as used now. Return the time of the mark in ns, by the clock of the store."""
    filesystem, folder = FileSystem.from_uri(uri)
    with filesystem.open_output_stream(f"{folder}/{_USED}") as file:
        file.write(b"")
    return int(filesystem.get_file_info(f"{folder}/{_USED}").mtime_ns)


def drop_unused_blocks(uri: str, hours: float, now: int, *, dry_run: bool = False) -> int:
    """Remove the folders of blocks below ``uri`` that were neither written nor used in the ``hours`` before ``now``
    (ns), and return their number. Younger folders stay: another run may be reading them."""
    filesystem, folder = FileSystem.from_uri(uri)
    number = 0
    for entry in filesystem.get_file_info(FileSelector(folder, allow_not_found=True)):
        if entry.type != FileType.Directory:
            continue
        files = filesystem.get_file_info(FileSelector(entry.path, recursive=True, allow_not_found=True))
        last_use = max([file.mtime_ns or 0 for file in files if file.is_file], default=entry.mtime_ns or 0)
        if last_use < now - hours * _HOUR:
            number += 1
            if not dry_run:
                with suppress(FileNotFoundError):  # another run has removed it
                    filesystem.delete_dir(entry.path)
    return number


def _number(
    centroids: Matrix | None, names: list[str], zeros: bool
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Add an ascending ordinal and the nearest cluster to rows that arrive in the order of item_id.

    Products are in float64, so that batch sizes do not change the cluster. ``zeros``: keep rows whose vector has no
    direction, with zeros.
    """
    wide = None if centroids is None else centroids.astype(np.float64)

    def number(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        first = partition() << _POSITION_BITS
        for batch in batches:
            if not batch.num_rows:
                continue
            usable, vectors = unit_vectors(batch["embedding"])
            if zeros:
                usable, vectors = _with_zeros(batch["embedding"], usable, vectors)
            count = len(vectors)
            clusters = np.zeros(count, np.int32) if wide is None else nearest_rows(vectors, wide)
            stored = batch.drop_columns(["embedding"]).take(pa.array(usable))
            added = {"ordinal": pa.array(np.arange(first, first + count)), "cluster": pa.array(clusters)}
            added["embedding"] = as_lists(vectors)
            yield pa.RecordBatch.from_arrays([added[n] if n in added else stored[n] for n in names], names=names)
            first += count
            if first > (partition() + 1) << _POSITION_BITS:
                raise UsageError(
                    f"more than {1 << _POSITION_BITS:,} items in one task that writes item blocks: use more tasks"
                )

    return number


def _with_zeros(column: pa.Array, usable: NDArray[np.int64], vectors: Matrix) -> tuple[NDArray[np.int64], Matrix]:
    """All rows of ``column`` and their vectors, with zeros for rows that are not ``usable``."""
    whole = np.zeros((len(column), vectors.shape[1] or len(column[0])), np.float32)
    if len(usable):
        whole[usable] = vectors
    return np.arange(len(column)), whole


def _write(uri: str, block_rows: int) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Write rows to block files and return one row of _FILE_SCHEMA for each file."""

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        filesystem, folder = FileSystem.from_uri(uri)
        for count, part in enumerate(slices(batches, block_rows)):
            vectors = matrix(part["embedding"])
            columns = part.drop_columns(["embedding"])
            fixed = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
            block = columns.append_column("embedding", fixed).combine_chunks()
            sink = pa.BufferOutputStream()
            with pa.ipc.new_file(sink, block.schema) as writer:
                writer.write_table(block)
            content = sink.getvalue()
            path = f"{uuid.uuid4().hex}-{zlib.crc32(content):08x}.arrow"
            with filesystem.open_output_stream(f"{folder}/{path}") as file:
                file.write(content)
            file_row = {
                "sort_key": partition() << 32 | count,
                "path": path,
                "rows": len(vectors),
                "dimension": vectors.shape[1],
                "boosts": len(vectors) - part["boost"].null_count,
                "dates": 2 * len(vectors) - part["available_from"].null_count - part["available_until"].null_count,
            }
            yield pa.RecordBatch.from_pylist([file_row], _FILE_SCHEMA)

    return write
