"""Item vectors as block files: written once, then read by every task of a join on its own.

No item crosses a shuffle or a broadcast for the sake of a user, neither side has to fit into memory, and a task holds
one block at a time. A block is an Arrow file of one record batch: ids, ordinals, unit vectors and what the rules of a
list want to know of an item.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyarrow.fs import FileSystem

from recsys_spark.arrays.vectors import Matrix
from recsys_spark.errors import InputError

RULE_COLUMNS = {
    "match_key": "string",  # only users of an equal key meet it
    "quota_group": "bigint",  # a list takes so many of a group
    "boost": "float",  # joins the score
    "available_from": "date",  # both days inclusive
    "available_until": "date",
}
"""What a rule may know of an item; all may be null."""

PARTITIONS = 255
"""At most: an ordinal is 8 bits of partition and 24 of place, ascending with item_id."""

_PLACE_BITS = 24

_ROW_COLUMNS = {"item_id": "string", **RULE_COLUMNS, "ordinal": "bigint", "list": "int"}

_ROW_NAMES = list(_ROW_COLUMNS)

_FILE_DDL = "place bigint, path string, rows bigint, dimension int, boosts bigint, dates bigint"

_FILE_SCHEMA = pa.schema(
    {
        "place": pa.int64(),
        "path": pa.string(),
        "rows": pa.int64(),
        "dimension": pa.int32(),
        "boosts": pa.int64(),
        "dates": pa.int64(),
    }
)

_SOUND: set[str] = set()
"""Block files that this process has checked. A task reads them again and again; they are looked at once."""

_MANIFEST, _CENTROIDS, _USED = "blocks.json", "centroids.npy", "used"

_HOUR = 3_600_000_000_000  # ns


@dataclass(frozen=True)
class ItemBlocks:
    """Where the blocks are. Small: it travels with every task.

    ``block_rows`` is the most items in one; ``lists`` the number of centroids, 0 where items lie in the order of
    item_id; ``boosted`` and ``dated``: whether any item has a boost, or days on which alone it is available.
    """

    uri: str
    paths: tuple[str, ...]
    rows: int
    dimension: int
    block_rows: int
    lists: int = 0
    boosted: bool = False
    dated: bool = False

    def blocks(self) -> Iterator[pa.RecordBatch]:
        """One after the other: 4·n·d bytes and the ids of n items."""
        yield from self._batches(None)

    def block(self, number: int) -> pa.RecordBatch:
        """One of them."""
        return next(self._batches(None, self.paths[number : number + 1]))

    def ids(self) -> Iterator[pa.RecordBatch]:
        """``item_id, ordinal`` of one block after the other; vectors are not read."""
        yield from self._batches([_ROW_NAMES.index("item_id"), _ROW_NAMES.index("ordinal")])

    def centroids(self) -> Matrix:
        """(lists, d): the directions that items are grouped by."""
        filesystem, folder = FileSystem.from_uri(self.uri)
        with filesystem.open_input_file(f"{folder}/{_CENTROIDS}") as file:
            return np.load(file)

    def _batches(self, fields: list[int] | None, paths: tuple[str, ...] | None = None) -> Iterator[pa.RecordBatch]:
        filesystem, folder = FileSystem.from_uri(self.uri)
        options = pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False)
        for path in self.paths if paths is None else paths:
            place = f"{self.uri}/{path}"
            with filesystem.open_input_file(f"{folder}/{path}") as file:
                source = file if place in _SOUND else _sound(file.read_buffer(), place)
                yield pa.ipc.open_file(source, options=options).get_batch(0)


def _sound(content: pa.Buffer, place: str) -> pa.Buffer:
    """``content``, if it is what was written to the file: its name holds the checksum.

    Raises:
        InputError: it is not.
    """
    if f"{zlib.crc32(content):08x}" != place.removesuffix(".arrow").rpartition("-")[2]:
        folder = place.rpartition("/")[0]
        raise InputError(f"block file {place} is damaged: remove folder {folder} and run again; it is written anew")
    _SOUND.add(place)
    return content
