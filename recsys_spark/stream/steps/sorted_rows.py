"""Copies of tables in files sorted by user, so that a batch reads the rows of its users and not the whole table."""

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem, FileType
from pyspark.sql import DataFrame

from recsys_spark.arrays.arrow import slices
from recsys_spark.blocks.steps.block_files import drop_unused_blocks, mark_used
from recsys_spark.lake.data_files import file_batches
from recsys_spark.lake.whole_files import write_whole
from recsys_spark.publish.steps.publishing import run_key
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.stream.kernels.sorted_files import USER, rows_of_users
from recsys_spark.tables.contract import ARROW_TYPES

_ROWS_PER_FILE = 1_000_000

_ROW_GROUP_BYTES = 128 * 1024
"""A look-up reads whole row groups: small ones waste little, and 100 million rows still have few thousand of them."""

_MANIFEST, _FOLDER, _FORMAT, _UNUSED_HOURS = "files.json", "streamed", 1, 48

_FILE_DDL, _FILE_SCHEMA = "path string", pa.schema({"path": pa.string()})


@dataclass(frozen=True)
class Users:
    """``user_id``, each once, and the files in which tasks find the ids too."""

    frame: DataFrame
    uris: tuple[str, ...]


@dataclass(frozen=True)
class SortedRows:
    """Files sorted by user, and their columns (name to Spark type)."""

    uris: tuple[str, ...]
    columns: dict[str, str]

    def mark_used(self) -> None:
        """Keep the files for two days more."""
        for folder in {uri.rpartition("/")[0] for uri in self.uris}:
            mark_used(folder)

    def of(self, users: Users, tasks: int) -> DataFrame:
        """The rows of ``users``, whose ids (``user_id``) each task reads."""
        spark, ddl = users.frame.sparkSession, ", ".join(f"{name} {kind}" for name, kind in self.columns.items())
        schema = pa.schema([pa.field(name, ARROW_TYPES[kind]) for name, kind in self.columns.items()])
        files = spark.createDataFrame([(uri,) for uri in self.uris], "uri string")
        files = files.repartition(max(1, min(tasks, len(self.uris))))
        return files.mapInArrow(_look_up(users.uris, schema), ddl)


def sorted_copy(
    run: Run, name: str, source: Mapping[str, object], build: Callable[[], DataFrame], rows: int
) -> SortedRows:
    """Open the sorted copy of an earlier start with the same ``source``, or write it.

    Args:
        run: the run.
        name: of the copy.
        source: the values that the rows depend on; their hash names the folder.
        build: returns the rows, with ``user_id``.
        rows: about how many there are.
    """
    fingerprint = run_key("sorted", dict(source)).partition(":")[2]
    uri = f"{run.lake.uri}/_blocks/{_FOLDER}/{name}-v{_FORMAT}-{fingerprint}"
    copy = _opened(uri)
    if copy is None:
        copy = _written(build(), uri, max(run.cores, -(-rows // _ROWS_PER_FILE)))
    drop_unused_blocks(uri.rpartition("/")[0], _UNUSED_HOURS, mark_used(uri))
    return copy


def _opened(uri: str) -> SortedRows | None:
    filesystem, folder = FileSystem.from_uri(uri)
    if filesystem.get_file_info(f"{folder}/{_MANIFEST}").type != FileType.File:
        return None
    with filesystem.open_input_file(f"{folder}/{_MANIFEST}") as file:
        manifest = json.loads(file.read())
    return SortedRows(tuple(f"{uri}/{path}" for path in manifest["paths"]), manifest["columns"])


def _written(rows: DataFrame, uri: str, tasks: int) -> SortedRows:
    filesystem, folder = FileSystem.from_uri(uri)
    filesystem.create_dir(folder, recursive=True)
    columns = dict(rows.dtypes)
    schema = pa.schema([pa.field(name, ARROW_TYPES[kind]) for name, kind in columns.items()])
    by_user = rows.repartition(tasks, USER).sortWithinPartitions(USER)
    paths = sorted(row["path"] for row in by_user.mapInArrow(_write(uri, schema), _FILE_DDL).collect())
    # Written last: a folder that has a manifest is complete.
    content = json.dumps({"paths": paths, "columns": columns})
    write_whole(filesystem, f"{folder}/{_MANIFEST}", content.encode())
    return SortedRows(tuple(f"{uri}/{path}" for path in paths), columns)


def _write(uri: str, schema: pa.Schema) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Write the rows of a task to one file; returns its name."""

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        filesystem, folder = FileSystem.from_uri(uri)
        path, writer = f"{uuid.uuid4().hex}.parquet", None
        for part in slices(batches, _ROWS_PER_FILE):
            group = max(1, _ROW_GROUP_BYTES * part.num_rows // max(part.nbytes, 1))
            writer = writer or pq.ParquetWriter(
                f"{folder}/{path}",
                schema,
                filesystem=filesystem,
                compression="zstd",
                use_dictionary=False,
                write_page_checksum=True,
            )
            writer.write_table(part.cast(schema), row_group_size=group)
        if writer is not None:
            writer.close()
            yield pa.RecordBatch.from_pylist([{"path": path}], _FILE_SCHEMA)

    return write


def _look_up(users: Sequence[str], schema: pa.Schema) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    ids = pa.schema({USER: pa.string()})

    def look_up(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        wanted: list[str] | None = None
        for uri in (uri for batch in batches for uri in batch["uri"].to_pylist()):
            if wanted is None:
                wanted = sorted(
                    {id for file in users for rows in file_batches(file, ids) for id in rows[USER].to_pylist()}
                )
            yield from rows_of_users(uri, wanted, schema)

    return look_up
