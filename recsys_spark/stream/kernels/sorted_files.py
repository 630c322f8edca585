"""Rows of some users in Parquet files that are sorted by user: only the row groups that may hold them are read."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

USER = "user_id"


def rows_of_users(uri: str, wanted: Sequence[str], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of a file that belong to some users, a row group at a time.

    Args:
        uri: of the file. One that is not sorted gives the same rows, but is read whole.
        wanted: ids of the users, ascending by code points, which is the order of their UTF-8 bytes.
        schema: the columns to read, ``user_id`` among them.
    """
    if not wanted:
        return
    filesystem, path = FileSystem.from_uri(uri)
    ids = pa.array(wanted, pa.string())
    with filesystem.open_input_file(path) as source:
        file = pq.ParquetFile(source, page_checksum_verification=True)
        for group in groups_with(file.metadata, wanted):
            rows = file.read_row_group(group, columns=schema.names, use_threads=False)
            rows = rows.filter(pc.is_in(rows[USER], value_set=ids))
            if rows.num_rows:
                yield from rows.select(schema.names).cast(schema).combine_chunks().to_batches()


def groups_with(metadata: pq.FileMetaData, wanted: Sequence[str]) -> list[int]:
    """The row groups that may hold a user of ``wanted``, which ascends; all groups without statistics."""
    column = metadata.schema.names.index(USER)
    groups = []
    for number in range(metadata.num_row_groups):
        bounds = metadata.row_group(number).column(column).statistics
        if bounds is None or not bounds.has_min_max or _may_hold(wanted, bounds.min, bounds.max):
            groups.append(number)
    return groups


def _may_hold(wanted: Sequence[str], low: str, high: str) -> bool:
    place = bisect_left(wanted, low)
    return place < len(wanted) and wanted[place] <= high
