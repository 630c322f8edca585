"""Plain files beside the tables of a lake: status, reports, scratch."""

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
"""Where earlier versions of evaluate_models had what is now below ``_blocks``."""


class PlainFiles:
    """The folders of a lake that are no table's, at the lake's ``uri``."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def folders(self, name: str) -> list[str]:
        """The folders in a folder of the lake that is no table's."""
        filesystem, folder = FileSystem.from_uri(f"{self.uri}/{name}")
        found = filesystem.get_file_info(FileSelector(folder, allow_not_found=True))
        return [f"{self.uri}/{name}/{info.base_name}" for info in found if info.type == FileType.Directory]

    def remove_files(self, name: str, such: Callable[[bytes], bool] | None = None) -> int:
        """Remove the files below a folder that is no table's, or those with ``such`` a content; how many they were."""
        filesystem, folder = FileSystem.from_uri(f"{self.uri}/{name}")
        number = 0
        for info in filesystem.get_file_info(FileSelector(folder, recursive=True, allow_not_found=True)):
            if info.type == FileType.File and (such is None or such(_content(filesystem, info.path))):
                filesystem.delete_file(info.path)
                number += 1
        return number

    def clock(self) -> int:
        """Now, in ns since 1970, by the clock that the store puts on its files."""
        filesystem, path = FileSystem.from_uri(f"{self.uri}/_status/.clock-{uuid.uuid4().hex}")
        filesystem.create_dir(path.rpartition("/")[0], recursive=True)
        with filesystem.open_output_stream(path) as stream:
            stream.write(b"")
        try:
            return int(filesystem.get_file_info(path).mtime_ns)
        finally:
            filesystem.delete_file(path)

    def write_status(self, job: str, run_date: str, report: dict[str, Any]) -> None:
        """Keep a job's last JSON line beside the tables: cluster modes hide exit codes and output."""
        self.write_json(f"_status/{job}", run_date, report)

    def write_json(self, name: str, file: str, content: dict[str, Any]) -> None:
        """Keep ``content`` as a file in a folder that is no table's."""
        filesystem, path = FileSystem.from_uri(f"{self.uri}/{name}")
        filesystem.create_dir(path, recursive=True)
        write_whole(filesystem, f"{path}/{file}.json", json.dumps(content).encode())

    def check_writable(self) -> None:
        """Raise InputError (RetryError: for now) where the lake cannot be written: before any work is done."""
        probe = f"{self.uri}/_status/.probe-{uuid.uuid4().hex}"
        try:
            filesystem, path = FileSystem.from_uri(probe)
            filesystem.create_dir(path.rpartition("/")[0], recursive=True)
            with filesystem.open_output_stream(path) as stream:
                stream.write(b"")
            filesystem.delete_file(path)
            if self.uri.startswith("s3://") and not refuses_to_overwrite(probe):
                raise InputError(
                    f"lake {self.uri} lies on a store that ignores conditional writes (If-None-Match): "
                    "two runs at once would lose each other's commits"
                )
        except (OSError, pa.ArrowException) as error:
            kind = RetryError if is_transient(error) else InputError
            raise kind(f"lake {self.uri} is not writable: {one_line(error)}") from error


def _content(filesystem: FileSystem, path: str) -> bytes:
    with filesystem.open_input_file(path) as stream:
        return bytes(stream.read())


def drop_blocks(uri: str) -> None:
    """Remove the blocks below ``uri``."""
    filesystem, folder = FileSystem.from_uri(uri)
    filesystem.delete_dir(folder)
