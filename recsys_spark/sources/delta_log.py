"""The log of a Delta table: what each version did."""

import json
import posixpath
from typing import Any
from urllib.parse import unquote, urlparse

from pyarrow.fs import FileType

from recsys_spark.sources.kernels.delta_file import file_system

Actions = list[dict[str, Any]]


def arrow_uri(path: str) -> str:
    """A path or URI as Arrow and deltalake know it: Hadoop's ``s3a`` is ``s3``."""
    return "s3://" + path.removeprefix("s3a://") if path.startswith("s3a://") else path


def delta_file(path: str, uri: str) -> str:
    """The path of a file in the log, with its characters as they are stored. The log escapes names as URIs do."""
    return unquote(uri) if urlparse(uri).scheme else f"{path}/{unquote(uri)}"


def log_actions(path: str, version: int) -> Actions | None:
    """The actions of one version of the table at ``path``; None: the log was cleaned up, and no longer has it."""
    filesystem, folder = file_system(arrow_uri(f"{path}/_delta_log"))
    file = posixpath.join(folder, f"{version:020}.json")
    if filesystem.get_file_info(file).type != FileType.File:
        return None
    with filesystem.open_input_file(file) as stream:
        return list(map(json.loads, stream.read().splitlines()))


def removes_rows(actions: Actions) -> bool:
    """Whether rows were removed or replaced. Files that an optimisation rewrites hold the same rows afterwards."""
    return any(action["remove"].get("dataChange", True) for action in actions if "remove" in action)


def added_files(actions: Actions) -> list[dict[str, Any]]:
    """The ``add`` actions of files with new rows; those that an optimisation wrote hold none."""
    return [action["add"] for action in actions if action.get("add", {}).get("dataChange")]


def last_change(path: str, version: int) -> int:
    """The last version up to ``version`` that may have changed rows or columns: what follows it only rewrote files."""
    while version and (actions := log_actions(path, version)) is not None:
        if removes_rows(actions) or added_files(actions) or any("metaData" in action for action in actions):
            break
        version -= 1
    return version
