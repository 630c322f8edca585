"""Item vectors as block files: written once, then read by every task of a join.

A join needs no shuffle and no broadcast of items, neither side has to fit into memory, and a task holds one block at
a time. A block is an Arrow file of one record batch: item ids, ordinals, unit vectors and the columns of RULE_COLUMNS.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyarrow.fs import FileSystem

from recsys_spark.arrays.vectors import Matrix
from recsys_spark.errors import InputError

BLOCK_FORMAT = 3
"""Version of the block files and their manifest, part of the folder name: blocks of another format are never opened.
Raise it when a column or a field of ``ItemBlocks`` changes. 3: ``rule_atoms``; 2: ``cluster``,
``clusters``; 1: ``list``, ``lists``."""

RULE_COLUMNS = {
    "match_key": "string",  # with ListRules.keyed, only users of an equal key can be recommended the item
    "quota_group": "bigint",  # ListRules.quota limits the items of a group in a list
    "boost": "float",  # added to the score
    "available_from": "date",  # both days inclusive
    "available_until": "date",
    "rule_atoms": "array<bigint>",  # ListRules.table says which users may be listed items with these
}
"""Item columns that rules read; all may be null."""

ROW_COLUMNS = {"item_id": "string", **RULE_COLUMNS, "ordinal": "bigint", "cluster": "int"}
"""Columns of a block file, followed by extra columns and ``embedding``."""

CENTROIDS_FILE = "centroids.npy"

_VERIFIED: set[str] = set()
"""Block files whose checksum this process has verified: a task reads a file many times, but verifies it once."""


@dataclass(frozen=True)
class ItemBlocks:
    """Location and sizes of item blocks. Small: it is serialized into every task.

    ``block_rows`` is the maximum number of items of a block. ``clusters`` is the number of centroids, 0 where items are
    in the order of item_id. ``boosted``: an item has a boost. ``dated``: an item has a first or last day of
    availability.
    """

    uri: str
    paths: tuple[str, ...]
    rows: int
    dimension: int
    block_rows: int
    clusters: int = 0
    boosted: bool = False
    dated: bool = False

    def blocks(self) -> Iterator[pa.RecordBatch]:
        """Read one block after the other: 4·n·d bytes and the ids of n items each."""
        yield from self._batches(None)

    def block(self, number: int) -> pa.RecordBatch:
        """Read the block with this number."""
        return next(self._batches(None, self.paths[number : number + 1]))

    def ids(self) -> Iterator[pa.RecordBatch]:
        """Read ``item_id, ordinal`` of one block after the other, without the vectors."""
        yield from self.columns("item_id", "ordinal")

    def columns(self, *names: str) -> Iterator[pa.RecordBatch]:
        """Read some columns of one block after the other."""
        yield from self._batches(names)

    def centroids(self) -> Matrix:
        """Read the centroids of the item clusters: (clusters, d)."""
        filesystem, folder = FileSystem.from_uri(self.uri)
        with filesystem.open_input_file(f"{folder}/{CENTROIDS_FILE}") as file:
            return np.load(file)

    def _batches(self, names: tuple[str, ...] | None, paths: tuple[str, ...] | None = None) -> Iterator[pa.RecordBatch]:
        filesystem, folder = FileSystem.from_uri(self.uri)
        for path in self.paths if paths is None else paths:
            uri = f"{self.uri}/{path}"
            with filesystem.open_input_file(f"{folder}/{path}") as file:
                source = file if uri in _VERIFIED else _verified(file.read_buffer(), uri)
                yield pa.ipc.open_file(source, options=_columns(source, names)).get_batch(0)


def _columns(source: pa.Buffer | pa.NativeFile, names: tuple[str, ...] | None) -> pa.ipc.IpcReadOptions:
    """Options that read these columns; all for None."""
    fields = None if names is None else [pa.ipc.open_file(source).schema.get_field_index(name) for name in names]
    return pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False)


def _verified(content: pa.Buffer, uri: str) -> pa.Buffer:
    """Return ``content`` if its checksum is the one in the name of the file.

    Raises:
        InputError: the checksums differ.
    """
    if f"{zlib.crc32(content):08x}" != uri.removesuffix(".arrow").rpartition("-")[2]:
        folder = uri.rpartition("/")[0]
        raise InputError(f"block file {uri} is damaged: remove folder {folder} and run again, which rebuilds it")
    _VERIFIED.add(uri)
    return content
