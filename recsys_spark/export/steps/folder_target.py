"""Documents in a folder: ``recommendations.json`` names the files that make up the version that is shown.

The name of a file is its bucket and the digest of its documents. So an unchanged bucket keeps its file, and an export
that stopped finds the files it has written. The manifest is replaced atomically; then files that it does not name go.
"""

import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pyarrow as pa
from pyarrow.fs import FileSelector, FileSystem, FileType
from pyspark.sql import functions as F

from recsys_spark.errors import InputError, RetryError, UsageError
from recsys_spark.errors.failpoints import failpoint
from recsys_spark.errors.messages import is_transient, one_line
from recsys_spark.export.documents import bucket, bucket_digests, file_rows
from recsys_spark.export.kernels.bucket_files import by_bucket, encoded
from recsys_spark.export.steps.collections import Collection, Exported
from recsys_spark.export.steps.targets import Export
from recsys_spark.lake.paths import absolute
from recsys_spark.lake.whole_files import write_whole

_DDL = "name string, documents bigint"

_FILES = pa.schema({"name": pa.string(), "documents": pa.int64()})


class FolderTarget:
    """A folder, or the URI of one, that is not in the lake."""

    takes_changes = False  # the name of a file says what all of its documents are

    def __init__(self, folder: str, lake: str, file_format: str, buckets: int) -> None:
        self.uri = absolute(folder)
        if f"{self.uri}/".startswith(f"{lake}/"):
            raise UsageError(
                f"--folder={self.uri} is in the lake, where forget_users would not look for it; give another"
            )
        self._format, self._buckets = file_format, buckets
        try:
            self._filesystem, self._path = FileSystem.from_uri(self.uri)
        except (OSError, pa.ArrowException) as error:
            raise UsageError(f"--folder={self.uri}: {one_line(error)}") from error

    def last(self, collection: Collection) -> Exported | None:
        """The version of the manifest, if its files have this format and number."""
        manifest = self._manifest(collection)
        same = (manifest.get("file_format"), manifest.get("buckets")) == (self._format, self._buckets)
        return Exported.from_json(json.dumps(manifest["version"])) if same else None

    def interrupted(self, collection: Collection) -> str | None:
        """None: readers see no file that the manifest does not name."""
        return None

    def publish(self, export: Export) -> dict[str, int]:
        """Write the buckets whose documents have changed, then replace the manifest."""
        collection = export.collection
        rows = bucket_digests(export.documents, self._buckets).collect()  # one for each bucket
        names = {row["bucket"]: self._name(row["bucket"], row["digest"]) for row in rows}
        folder = f"{self._path}/{collection.table.name}"
        self._filesystem.create_dir(folder, recursive=True)
        missing = {number: name for number, name in names.items() if name not in self._names(folder)}
        written = self._write(export, missing) if missing else 0
        failpoint("flip.before", collection.table.name)
        if absent := set(names.values()) - self._names(folder):
            raise RetryError(f"{len(absent)} files of {self.uri} are missing: another export removed them; run again")
        manifest = {"version": json.loads(export.version.to_json()), "file_format": self._format}
        manifest |= {"buckets": self._buckets, "documents": sum(row["documents"] for row in rows), "files": names}
        write_whole(self._filesystem, f"{folder}.json", json.dumps(manifest).encode())
        old = self._names(folder) - set(names.values())
        for name in old:
            self._filesystem.delete_file(f"{folder}/{name}")
        return {"written": written, "files_written": len(missing), "files_removed": len(old)}

    def close(self) -> None:
        """Nothing is open."""

    def _name(self, number: int, digest: int) -> str:
        return f"{number:04d}-{digest & (2**64 - 1):016x}.{self._format}"

    def _write(self, export: Export, names: Mapping[int, str]) -> int:
        """Write files by bucket; returns the number of their documents."""
        collection = export.collection
        own = bucket(self._buckets)
        documents = export.documents.where(own.isin(list(names)))
        rows = file_rows(documents, collection.id_column, self._format).withColumn("bucket", own)
        rows = rows.repartition("bucket").sortWithinPartitions("bucket", "id")
        write = partial(
            _write_files, folder=f"{self.uri}/{collection.table.name}", names=names, id_column=collection.id_column
        )
        files = rows.select("bucket", "id", "content").mapInArrow(write, _DDL).agg(F.sum("documents")).collect()
        return int(files[0][0] or 0)

    def _manifest(self, collection: Collection) -> dict[str, Any]:
        path = f"{self._path}/{collection.table.name}.json"
        try:
            if self._filesystem.get_file_info(path).type != FileType.File:
                return {}
            with self._filesystem.open_input_file(path) as stream:
                return dict(json.loads(stream.read()))
        except (OSError, pa.ArrowException) as error:
            raise (RetryError if is_transient(error) else InputError)(f"{path}: {one_line(error)}") from error
        except ValueError as error:
            raise InputError(f"{path} is not a manifest of an export: remove the file, then export again") from error

    def _names(self, folder: str) -> set[str]:
        infos = self._filesystem.get_file_info(FileSelector(folder, allow_not_found=True))
        return {info.base_name for info in infos if info.type == FileType.File}


def _write_files(
    batches: Iterator[pa.RecordBatch], folder: str, names: Mapping[int, str], id_column: str
) -> Iterator[pa.RecordBatch]:
    """In a task: one file for each bucket."""
    filesystem, path = FileSystem.from_uri(folder)
    for number, rows in by_bucket(batches):
        name = names[number]
        write_whole(filesystem, f"{path}/{name}", encoded(rows, name.rpartition(".")[2], id_column))
        yield pa.RecordBatch.from_pylist([{"name": name, "documents": rows.num_rows}], _FILES)
