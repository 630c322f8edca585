"""Encode the documents of a bucket as the bytes of one file."""

from collections.abc import Iterator
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ARROW_SCHEMA = pa.schema({"id": pa.large_binary(), "value": pa.large_binary()})
"""Of Arrow files: one record batch, sorted by ``id`` (UTF-8), so that a memory-mapped file is searched in place."""


def by_bucket(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, pa.Table]]:
    """Cut rows that are sorted by ``bucket`` into one table for each bucket, without that column."""
    rows: list[pa.RecordBatch] = []
    last = -1
    for batch in batches:
        buckets = batch["bucket"].to_numpy()
        borders = [0, *(np.flatnonzero(np.diff(buckets)) + 1), len(buckets)]
        for first, end in zip(borders, borders[1:], strict=False):
            if first == end:
                continue
            if buckets[first] != last and rows:
                yield last, pa.Table.from_batches(rows)
                rows = []
            last = int(buckets[first])
            rows.append(batch.slice(first, end - first).drop_columns(["bucket"]))
    if rows:
        yield last, pa.Table.from_batches(rows)


def encoded(rows: pa.Table, file_format: str, id_column: str) -> bytes:
    """The file of a bucket. ``rows``: ``id, content``, sorted by ``id``.

    parquet: columns ``id_column`` and ``items``. jsonl: ``content`` is a line. arrow: ARROW_SCHEMA.
    """
    file = BytesIO()
    if file_format == "jsonl":
        file.write("".join(f"{line}\n" for line in rows["content"].to_pylist()).encode())
    elif file_format == "parquet":
        pq.write_table(rows.rename_columns([id_column, "items"]), file, compression="zstd")
    else:
        table = rows.rename_columns(ARROW_SCHEMA.names).cast(ARROW_SCHEMA).combine_chunks()
        with pa.ipc.new_file(file, ARROW_SCHEMA) as writer:
            writer.write_table(table)
    return file.getvalue()
