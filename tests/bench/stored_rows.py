"""Rows of a table as a task of Spark stores them, without Spark: sources that a test writes itself."""

import hashlib
import json
import time
from collections.abc import Iterable

import pyarrow as pa
from deltalake.transaction import AddAction
from pyarrow.fs import FileSystem

from recsys_spark.lake.commits import Staged, content_of
from recsys_spark.lake.data_files import write_files
from recsys_spark.lake.lake import Lake
from recsys_spark.tables.schemas import Table


def staged(lake: Lake, table: Table, rows: Iterable[tuple], files: int = 2) -> Staged:
    """Stage rows in ``files`` files. Their content id tells contents apart as that of ``Lake.stage`` does, but is
    another one: a table gets its rows in one of the two ways."""
    uri, rows = lake.table_uri(table), list(rows)
    filesystem, path = FileSystem.from_uri(uri)
    filesystem.create_dir(path, recursive=True)
    keys = [c for c in table.key if table.columns[c] in ("string", "int", "bigint") and not c.endswith("_id")]
    written = []
    for number in range(files):
        records = [
            dict.fromkeys(table.columns) | dict(zip(table.columns, row, strict=False)) for row in rows[number::files]
        ]
        batch = pa.RecordBatch.from_pylist(records, table.arrow_schema)
        written += [
            row
            for part in write_files(iter([batch]), None, uri, table.arrow_schema, keys, table.checks)
            for row in part.to_pylist()
        ]
    now, named = int(time.time() * 1000), [row for row in written if row["path"]]
    actions = [AddAction(row["path"], row["bytes"], {}, now, True, row["stats"]) for row in named]
    last = lake.last_commit(table)
    notes = [json.loads(row["notes"]) for row in written]
    content = content_of(len(rows), sum(map(_digest, rows)))
    return Staged(table, actions, len(rows), notes, content, last.version if last else None)


def commit_rows(lake: Lake, table: Table, rows: Iterable[tuple], key: str, **more: bool) -> int:
    """Publish rows as the run ``key``."""
    return lake.commit(staged(lake, table, rows), key, **more)


def _digest(row: tuple) -> int:
    return int.from_bytes(hashlib.blake2b(repr(row).encode(), digest_size=8).digest(), "big")
