"""Write, open and clean up the files of item blocks."""

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
from recsys_spark.blocks.item_blocks import (
    _CENTROIDS,
    _FILE_DDL,
    _FILE_SCHEMA,
    _HOUR,
    _MANIFEST,
    _PLACE_BITS,
    _ROW_COLUMNS,
    _USED,
    PARTITIONS,
    RULE_COLUMNS,
    ItemBlocks,
)
from recsys_spark.blocks.kernels.spherical_kmeans import nearest_rows
from recsys_spark.errors import UsageError
from recsys_spark.lake.whole_files import write_whole
from recsys_spark.runtime.task import partition


def write_item_blocks(
    items: DataFrame,
    uri: str,
    block_rows: int,
    *,
    tasks: int,
    centroids: Matrix | None = None,
    carried: Mapping[str, str] | None = None,
) -> ItemBlocks:
    """Write ``item_id, embedding`` and any of RULE_COLUMNS as blocks of at most ``block_rows`` items below ``uri``.

    Vectors without a direction (null, NaN, zero) are left out. Blocks are in the order of item_id; where items have a
    ``match_key``, or with ``centroids`` (unit rows), in the order of key and nearest centroid. Items with ``carried``
    columns (name to Spark type) have more to them than a vector: they are kept without a direction too, with zeros.
    """
    filesystem, folder = FileSystem.from_uri(uri)
    filesystem.create_dir(folder, recursive=True)
    tasks = min(tasks, PARTITIONS)
    rules = [F.col(n) if n in items.columns else F.lit(None).cast(kind).alias(n) for n, kind in RULE_COLUMNS.items()]
    ordered = items.select("item_id", *rules, *(carried or {}), "embedding").where(F.size("embedding") > 0)
    ordered = ordered.repartitionByRange(tasks, "item_id").sortWithinPartitions("item_id")
    row_columns = {**_ROW_COLUMNS, **(carried or {}), "embedding": "array<float>"}
    number, write = _number(centroids, list(row_columns), bool(carried)), _write(uri, block_rows)
    if centroids is None and "match_key" not in items.columns:
        files = ordered.mapInArrow(lambda batches: write(number(batches)), _FILE_DDL)
    else:
        numbered = ordered.mapInArrow(number, ", ".join(f"{name} {kind}" for name, kind in row_columns.items()))
        order = ("match_key", "list", "ordinal")  # by ranges: one key may be most of the catalogue
        grouped = numbered.repartitionByRange(tasks, *order).sortWithinPartitions(*order)
        files = grouped.mapInArrow(write, _FILE_DDL)
    found = sorted(files.collect(), key=lambda file: file["place"])  # one row per block
    return _described(uri, found, block_rows, centroids)


def _described(uri: str, files: list[Row], rows: int, centroids: Matrix | None) -> ItemBlocks:
    dimensions = sorted({file["dimension"] for file in files})
    if len(dimensions) > 1:
        raise UsageError(
            f"vectors of {dimensions[0]} and of {dimensions[-1]} numbers in one table: two models were mixed"
        )
    blocks = ItemBlocks(
        uri,
        tuple(file["path"] for file in files),
        sum(file["rows"] for file in files),
        dimensions[0] if dimensions else 0,
        block_rows=rows,
        lists=0 if centroids is None else len(centroids),
        boosted=any(file["boosts"] for file in files),
        dated=any(file["dates"] for file in files),
    )
    filesystem, folder = FileSystem.from_uri(uri)
    if centroids is not None:
        with filesystem.open_output_stream(f"{folder}/{_CENTROIDS}") as file:
            np.save(file, centroids)
    # Last: what has it is whole.
    write_whole(filesystem, f"{folder}/{_MANIFEST}", json.dumps(asdict(blocks) | {"uri": ""}).encode())
    return blocks


def open_item_blocks(uri: str) -> ItemBlocks | None:
    """Blocks that an earlier run wrote below ``uri``, or None."""
    filesystem, folder = FileSystem.from_uri(uri)
    if filesystem.get_file_info(f"{folder}/{_MANIFEST}").type != FileType.File:
        return None
    with filesystem.open_input_file(f"{folder}/{_MANIFEST}") as file:
        known = json.loads(file.read())
    if any("-" not in path for path in known["paths"]):  # written before names held checksums
        return None
    return ItemBlocks(**known | {"uri": uri, "paths": tuple(known["paths"])})


def mark_used(uri: str) -> int:
    """Say that a run is about to read the blocks below ``uri``. Returns when, in ns, by the clock of the store."""
    filesystem, folder = FileSystem.from_uri(uri)
    with filesystem.open_output_stream(f"{folder}/{_USED}") as file:
        file.write(b"")
    return int(filesystem.get_file_info(f"{folder}/{_USED}").mtime_ns)


def drop_unused_blocks(uri: str, hours: float, now: int, *, dry_run: bool = False) -> int:
    """Remove the blocks in the folder ``uri`` that were not written or used for ``hours`` before ``now`` (ns); how many
    they were. Younger ones may be what another run reads just now."""
    filesystem, folder = FileSystem.from_uri(uri)
    number = 0
    for found in filesystem.get_file_info(FileSelector(folder, allow_not_found=True)):
        if found.type == FileType.Directory:
            files = filesystem.get_file_info(FileSelector(found.path, recursive=True, allow_not_found=True))
            last = max([file.mtime_ns or 0 for file in files if file.is_file], default=found.mtime_ns or 0)
            if last < now - hours * _HOUR:
                number += 1
                if not dry_run:
                    with suppress(FileNotFoundError):  # another run was faster
                        filesystem.delete_dir(found.path)
    return number


def _number(
    centroids: Matrix | None, names: list[str], zeros: bool
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Ascending numbers for rows that arrive in the order of item_id, and the list of each: by products in float64, the
    same whatever the batch. ``zeros``: keep rows without a direction."""
    wide = None if centroids is None else centroids.astype(np.float64)

    def number(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        first = partition() << _PLACE_BITS
        for batch in batches:
            if not batch.num_rows:
                continue
            usable, vectors = unit_vectors(batch["embedding"])
            if zeros:
                usable, vectors = _with_zeros(batch["embedding"], usable, vectors)
            count = len(vectors)
            lists = np.zeros(count, np.int32) if wide is None else nearest_rows(vectors, wide)
            kept = batch.drop_columns(["embedding"]).take(pa.array(usable))
            added = {"ordinal": pa.array(np.arange(first, first + count)), "list": pa.array(lists)}
            added["embedding"] = as_lists(vectors)
            yield pa.RecordBatch.from_arrays([added[n] if n in added else kept[n] for n in names], names=names)
            first += count
            if first > (partition() + 1) << _PLACE_BITS:
                raise UsageError(f"more than {1 << _PLACE_BITS:,} items in one of the tasks that pack them: more tasks")

    return number


def _with_zeros(column: pa.Array, usable: NDArray[np.int64], vectors: Matrix) -> tuple[NDArray[np.int64], Matrix]:
    whole = np.zeros((len(column), vectors.shape[1] or len(column[0])), np.float32)
    if len(usable):
        whole[usable] = vectors
    return np.arange(len(column)), whole


def _write(uri: str, block_rows: int) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Rows to files, and what the driver wants to know of each."""

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
            told = {
                "place": partition() << 32 | count,
                "path": path,
                "rows": len(vectors),
                "dimension": vectors.shape[1],
                "boosts": len(vectors) - part["boost"].null_count,
                "dates": 2 * len(vectors) - part["available_from"].null_count - part["available_until"].null_count,
            }
            yield pa.RecordBatch.from_pylist([told], _FILE_SCHEMA)

    return write
