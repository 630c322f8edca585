"""Plain files next to the tables of a lake: status, reports, temporary files."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from pyarrow.fs import FileSelector, FileSystem, FileType

from recsys_spark.errors import InputError, RetryError
from recsys_spark.errors.messages import is_transient, one_line
from recsys_spark.lake.conditional_writes import refuses_to_overwrite
from recsys_spark.lake.whole_files import write_whole

COMPARISONS = "_comparison"
"""Folder in which earlier releases of evaluate_models kept the files that are now below ``_blocks``."""


class PlainFiles:
    """The folders of the lake at ``uri`` that hold no table."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def folders(self, name: str) -> list[str]:
        """The URIs of the folders in the folder ``name``."""
        filesystem, folder = FileSystem.from_uri(f"{self.uri}/{name}")
        infos = filesystem.get_file_info(FileSelector(folder, allow_not_found=True))
        return [f"{self.uri}/{name}/{info.base_name}" for info in infos if info.type == FileType.Directory]

    def remove_files(self, name: str, matches: Callable[[bytes], bool] | None = None) -> int:
        """Remove the files below the folder ``name``: all, or those whose content ``matches``. Returns their number."""
        filesystem, folder = FileSystem.from_uri(f"{self.uri}/{name}")
        number = 0
        for info in filesystem.get_file_info(FileSelector(folder, recursive=True, allow_not_found=True)):
            if info.type == FileType.File and (matches is None or matches(_content(filesystem, info.path))):
                filesystem.delete_file(info.path)
                number += 1
        return number

    def clock(self) -> int:
        """The present time by the store's clock, which stamps its files: ns since 1970."""
        filesystem, path = FileSystem.from_uri(f"{self.uri}/_status/.clock-{uuid.uuid4().hex}")
        filesystem.create_dir(path.rpartition("/")[0], recursive=True)
        with filesystem.open_output_stream(path) as stream:
            stream.write(b"")
        try:
            return int(filesystem.get_file_info(path).mtime_ns)
        finally:
            filesystem.delete_file(path)

    def write_status(self, job: str, run_date: str, report: dict[str, Any]) -> None:
        """Write a job's last JSON line next to the tables, since cluster modes hide exit codes and output."""
        self.write_json(f"_status/{job}", run_date, report)

    def write_json(self, name: str, file: str, content: dict[str, Any]) -> None:
        """Write ``content`` to a JSON file in the folder ``name``."""
        filesystem, path = FileSystem.from_uri(f"{self.uri}/{name}")
        filesystem.create_dir(path, recursive=True)
        write_whole(filesystem, f"{path}/{file}.json", json.dumps(content).encode())

    def check_writable(self) -> None:
        """Write and remove a file, to fail before any work is done.

        Raises:
            InputError: the lake cannot be written, or its store ignores conditional writes.
            RetryError: the lake cannot be written for now.
        """
        probe = f"{self.uri}/_status/.probe-{uuid.uuid4().hex}"
        try:
            filesystem, path = FileSystem.from_uri(probe)
            filesystem.create_dir(path.rpartition("/")[0], recursive=True)
            with filesystem.open_output_stream(path) as stream:
                stream.write(b"")
            filesystem.delete_file(path)
            if self.uri.startswith("s3://") and not refuses_to_overwrite(probe):
                raise InputError(
                    f"lake {self.uri} is on a store that ignores conditional writes (If-None-Match): "
                    "of two runs at once, one would overwrite the other's commits"
                )
        except (OSError, pa.ArrowException) as error:
            kind = RetryError if is_transient(error) else InputError
            raise kind(f"lake {self.uri} is not writable: {one_line(error)}") from error


def _content(filesystem: FileSystem, path: str) -> bytes:
    with filesystem.open_input_file(path) as stream:
        return bytes(stream.read())


def drop_blocks(uri: str) -> None:
    """Remove the folder at ``uri`` with all its files."""
    filesystem, folder = FileSystem.from_uri(uri)
    filesystem.delete_dir(folder)
