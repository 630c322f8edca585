"""Rows of a data file of a Delta table, as its protocol has them read: columns by their stored names or ids, values of
partition columns from the log, without deleted rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

STORED_NAME, STORED_ID = b"delta.name", b"delta.id"
"""Metadata of a field: its name in the files, or its id, where the table maps columns."""

_PARQUET_ID = b"PARQUET:field_id"


@dataclass(frozen=True)
class StoredFile:
    """A data file: URI or absolute path, size in bytes, values of the partition columns, positions of deleted rows."""

    uri: str
    size: int
    constants: Mapping[str, Any]
    deleted: np.ndarray | None = None
    """int64, ascending; None: no row is deleted."""


def file_system(uri: str) -> tuple[FileSystem, str]:
    """The file system of a path or URI, and the path within it. A URI is given with its characters as they are stored:
    Arrow decodes URIs, but not plain paths."""
    filesystem, path = FileSystem.from_uri(quote(uri, safe="/:@") if "://" in uri else uri)
    return filesystem, str(path)


def stored_rows(files: Sequence[StoredFile], fields: pa.Schema, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of ``files`` in their order. A column that a file lacks is null.

    Args:
        files: of one table.
        fields: its columns; metadata gives their stored names or ids.
        schema: the types that are wanted, in the same order.
    """
    for file in files:
        filesystem, path = file_system(file.uri)
        with filesystem.open_input_file(path) as source:
            yield from _rows(file, pq.ParquetFile(source, coerce_int96_timestamp_unit="us"), fields, schema)


def _rows(file: StoredFile, parquet: pq.ParquetFile, fields: pa.Schema, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    stored = list(parquet.schema_arrow)
    places = [None if field.name in file.constants else _place(field, stored) for field in fields]
    names = list(dict.fromkeys(stored[place].name for place in places if place is not None))
    start = 0
    for batch in parquet.iter_batches(columns=names):
        columns = [
            fitted(batch[stored[place].name], stored[place], field, wanted.type)
            if place is not None
            else pa.repeat(pa.scalar(file.constants.get(field.name), field.type).cast(wanted.type), batch.num_rows)
            for place, field, wanted in zip(places, fields, schema, strict=True)
        ]
        rows = pa.RecordBatch.from_arrays(columns, schema=schema)
        yield rows if file.deleted is None else rows.filter(_kept(file.deleted, start, batch.num_rows))
        start += batch.num_rows


def _kept(deleted: np.ndarray, start: int, rows: int) -> pa.Array:
    within = deleted[np.searchsorted(deleted, start) : np.searchsorted(deleted, start + rows)] - start
    kept = np.ones(rows, bool)
    kept[within] = False
    return pa.array(kept)


def _place(field: pa.Field, stored: Sequence[pa.Field]) -> int | None:
    """The place of a column among the stored fields, or None: by its id, else by its stored name."""
    metadata = field.metadata or {}
    if STORED_ID in metadata:
        return next((n for n, one in enumerate(stored) if (one.metadata or {}).get(_PARQUET_ID) == metadata[STORED_ID]),
                    None)  # fmt: skip
    name = metadata[STORED_NAME].decode() if STORED_NAME in metadata else field.name
    return next((number for number, one in enumerate(stored) if one.name == name), None)


def fitted(array: pa.Array, stored: pa.Field, field: pa.Field, wanted: pa.DataType) -> pa.Array:
    """An array of a file with the names and types of the table, at any depth."""
    if pa.types.is_struct(wanted):
        children = list(stored.type)
        columns = []
        for inner, inner_wanted in zip(field.type, wanted, strict=True):
            place = _place(inner, children)
            columns.append(
                pa.nulls(len(array), inner_wanted.type)
                if place is None
                else fitted(array.field(place), children[place], inner, inner_wanted.type)
            )
        return pa.StructArray.from_arrays(columns, fields=list(wanted), mask=array.is_null())
    if pa.types.is_map(wanted):
        parts = [
            fitted(part, stored_part, own, kind)
            for part, stored_part, own, kind in (
                (array.keys, stored.type.key_field, field.type.key_field, wanted.key_type),
                (array.items, stored.type.item_field, field.type.item_field, wanted.item_type),
            )
        ]
        return pa.MapArray.from_arrays(array.offsets, *parts, type=wanted, mask=array.is_null())
    if pa.types.is_list(wanted):
        values = fitted(array.values, stored.type.value_field, field.type.value_field, wanted.value_type)
        return pa.ListArray.from_arrays(array.offsets, values, type=wanted, mask=array.is_null())
    return array.cast(wanted)
