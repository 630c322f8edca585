"""Clones of a lake: lakes of their own that began as a copy of its tables.

A clone has the logs of the tables, so that versions, run keys and provenance are the same, and the data files as hard
links, or as copies where the two lakes are not on one local disk. Files of Delta tables never change; to remove one in
either lake leaves the other whole. The source knows its clones, since who is forgotten there must be forgotten in them.
"""

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from recsys_spark.errors import InputError
from recsys_spark.lake.whole_files import write_whole

MARK = "_clone.json"

_REGISTER = "_clones"

_ENTRY = re.compile(r"(\d{20})\..*(json|parquet)")

_THREADS = 16

_CHUNK = 8 << 20


@dataclass(frozen=True)
class CloneMark:
    """The file ``_clone.json`` of a clone."""

    name: str
    """By which the source knows it."""
    source: str
    """The URI of the source."""
    versions: Mapping[str, int] = field(default_factory=dict)
    """The version of each table."""
    run_date: str | None = None
    """The night that was chosen; None: the newest versions."""
    complete: bool = False


def clone_mark(uri: str) -> CloneMark | None:
    """The mark of the lake at ``uri``; None if it is no clone."""
    content = _read_json(f"{uri}/{MARK}")
    return None if content is None else CloneMark(**content)


def write_mark(uri: str, mark: CloneMark) -> None:
    """Write the mark of the clone at ``uri``."""
    _write_json(uri, MARK, asdict(mark))


def register_clone(source: str, name: str, clone: str) -> None:
    """Note a clone in its source, before it has any file."""
    _write_json(f"{source}/{_REGISTER}", f"{name}.json", {"lake": clone})


def registered_clones(source: str) -> dict[str, str]:
    """The URIs of the clones of a lake by name."""
    filesystem, folder = FileSystem.from_uri(f"{source}/{_REGISTER}")
    infos = filesystem.get_file_info(FileSelector(folder, allow_not_found=True))
    names = sorted(info.base_name for info in infos if info.base_name.endswith(".json"))
    entries = {name: _read_json(f"{source}/{_REGISTER}/{name}") or {} for name in names}
    return {name.removesuffix(".json"): str(entry["lake"]) for name, entry in entries.items()}


def clone_table(source: str, target: str, version: int, files: Iterable[str]) -> dict[str, int]:
    """Clone ``files`` and the log up to ``version`` of a table; numbers of files by way: ``linked``, ``copied``,
    ``there``.

    The files first, and the log from its newest entry back to its oldest: until the last of them is there, no reader
    can open the table, nor find an older version.

    Raises:
        InputError: a file is missing in the source.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        ways = list(pool.map(lambda name: clone_file(f"{source}/{name}", f"{target}/{name}"), files))
    filesystem, folder = FileSystem.from_uri(f"{source}/_delta_log")
    infos = filesystem.get_file_info(FileSelector(folder, allow_not_found=True))
    named = [(match, info.base_name) for info in infos if (match := _ENTRY.fullmatch(info.base_name))]
    entries = [name for match, name in named if int(match[1]) <= version]
    for name in sorted(entries, key=lambda name: (".checkpoint" not in name, name), reverse=True):
        clone_file(f"{source}/_delta_log/{name}", f"{target}/_delta_log/{name}")
    return {way: ways.count(way) for way in ("linked", "copied", "there")}


def clone_file(source: str, target: str) -> str:
    """Make the file ``target`` a hard link to ``source``, or a copy where that is not possible; return which, or
    ``there`` if it exists: a file appears whole.

    Raises:
        InputError: there is no such file.
    """
    (filesystem, path), (target_filesystem, target_path) = map(FileSystem.from_uri, (source, target))
    if target_filesystem.get_file_info(target_path).type == FileType.File:
        return "there"
    target_filesystem.create_dir(target_path.rpartition("/")[0], recursive=True)
    try:
        if isinstance(filesystem, LocalFileSystem) and isinstance(target_filesystem, LocalFileSystem):
            return _link(path, target_path)
        if filesystem.equals(target_filesystem):
            filesystem.copy_file(path, target_path)  # by the store itself
        else:
            _stream(filesystem, path, target_filesystem, target_path)
    except FileNotFoundError as error:
        raise InputError(f"{source} is missing: a vacuum has removed it, or the table is damaged; run again") from error
    return "copied"


def _link(path: str, target: str) -> str:
    try:
        os.link(path, target)
    except FileNotFoundError:
        raise
    except OSError:  # another disk, or one without links
        draft = f"{target}.{uuid.uuid4().hex}.draft"
        shutil.copyfile(path, draft)
        os.replace(draft, target)
        return "copied"
    return "linked"


def _stream(filesystem: FileSystem, path: str, target_filesystem: FileSystem, target: str) -> None:
    is_local = isinstance(target_filesystem, LocalFileSystem)
    draft = f"{target}.{uuid.uuid4().hex}.draft" if is_local else target
    with filesystem.open_input_stream(path) as content, target_filesystem.open_output_stream(draft) as stream:
        while chunk := content.read(_CHUNK):
            stream.write(chunk)
    if is_local:
        os.replace(draft, target)


def _read_json(uri: str) -> dict[str, Any] | None:
    filesystem, path = FileSystem.from_uri(uri)
    if filesystem.get_file_info(path).type != FileType.File:
        return None
    with filesystem.open_input_stream(path) as stream:
        return dict(json.loads(stream.read()))


def _write_json(folder: str, name: str, content: Mapping[str, Any]) -> None:
    filesystem, path = FileSystem.from_uri(folder)
    filesystem.create_dir(path, recursive=True)
    write_whole(filesystem, f"{path}/{name}", json.dumps(content, sort_keys=True).encode())
