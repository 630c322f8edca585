"""Rows packed into blocks, so that kernels work on matrices and a join of two sides is a join of blocks.

Every item block meets every block of the other side in one task: the item side is broadcast, nothing but block rows
moves, and no pair of a user and an item is ever a row.
"""

import bisect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark import TaskContext
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import UsageError
from recsys_spark.kernels.vectors import unit_rows

ITEM_BLOCK_DDL = "item_block bigint, item_ids array<string>, item_vectors binary, item_dimension int"
ORDINALS_PER_TASK = 1 << 40
"""An item's ordinal is (range partition, place): ascending with item_id, since partitions are ranges of it."""


def is_usable(embedding: Column) -> Column:
    """True for a vector that has a direction: not null, not empty, finite, not all zero."""
    bad = F.exists(embedding, lambda x: x.isNull() | F.isnan(x) | (F.abs(x) == float("inf")))
    return F.coalesce(~bad & F.exists(embedding, lambda x: x != 0), F.lit(False))


def pack_items(items: DataFrame, block_rows: int, partitions: int) -> DataFrame:
    """``item_id, embedding`` to blocks of at most ``block_rows`` unit vectors, in the order of ``item_id``."""
    ordered = items.where(is_usable(F.col("embedding"))).select("item_id", "embedding")
    ordered = ordered.repartitionByRange(partitions, "item_id").sortWithinPartitions("item_id")

    def pack(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        ordinal = partition() * ORDINALS_PER_TASK
        for part in slices(batches, block_rows):
            vectors = unit_rows(matrix(part["embedding"]))
            yield block_row(ITEM_BLOCK_DDL, ordinal, part["item_id"].to_pylist(), vectors.tobytes(), vectors.shape[1])
            ordinal += len(vectors)

    return ordered.mapInArrow(pack, ITEM_BLOCK_DDL)


def join_blocks(
    blocks: DataFrame,
    item_blocks: DataFrame,
    run: Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]],
    schema: str,
) -> DataFrame:
    """Each row of ``blocks`` next to all item blocks, in sequence, within one task; ``run`` turns them into rows.

    Memory per task: one row of either side per Arrow batch, which Spark bounds in bytes. The packed items are held
    once per executor: 4·n·d bytes and the ids.
    """
    paired = blocks.crossJoin(F.broadcast(item_blocks))
    return paired.mapInArrow(run, schema)


def item_block(record: dict[str, Any]) -> tuple[int, pa.Array, NDArray[np.float32]]:
    """First ordinal, ids and unit vectors of the item side of a joined row (Arrow scalars by column name)."""
    vectors = np.frombuffer(record["item_vectors"].as_buffer(), np.float32)
    return (
        record["item_block"].as_py(),
        record["item_ids"].values,
        vectors.reshape(-1, record["item_dimension"].as_py()),
    )


def records(batches: Iterator[pa.RecordBatch]) -> Iterator[dict[str, Any]]:
    """Joined rows one by one as Arrow scalars: their buffers are not copied."""
    for batch in batches:
        for row in range(batch.num_rows):
            yield {name: batch.column(name)[row] for name in batch.schema.names}


class IdIndex:
    """Many ids, asked again and again which of them lie in an item block."""

    def __init__(self, ids: pa.Array) -> None:
        self._order = pc.sort_indices(ids)
        self._ids = ids.take(self._order)

    def matches(self, block_ids: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(places in ``ids``, places in ``block_ids``) of equal ids, ascending by the first."""
        if not len(block_ids):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        bounds = pc.min_max(block_ids).as_py()
        start, stop = self._place(bounds["min"], bisect.bisect_left), self._place(bounds["max"], bisect.bisect_right)
        found = pc.index_in(self._ids.slice(start, stop - start), value_set=block_ids)
        there = np.flatnonzero(found.is_valid().to_numpy(zero_copy_only=False))
        places = self._order.to_numpy()[start + there].astype(np.int64)
        columns = found.drop_null().to_numpy().astype(np.int64)
        order = np.argsort(places, kind="stable")
        return places[order], columns[order]

    def _place(self, value: str, side: Callable[..., int]) -> int:
        return side(range(len(self._ids)), value, key=lambda place: self._ids[place].as_py())


def slices(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Arrow batches cut anew into tables of exactly ``rows`` rows, the last one shorter."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += batch.num_rows
        while count >= rows:
            table = pa.Table.from_batches(held)
            yield table.slice(0, rows).combine_chunks()
            rest = table.slice(rows)
            held, count = rest.to_batches(), rest.num_rows
    if count:
        yield pa.Table.from_batches(held).combine_chunks()


def matrix(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """A column of equally long vectors as (n, d), without Python objects.

    Raises:
        UsageError: the vectors have different lengths.
    """
    lists = column.combine_chunks()
    values = lists.flatten().to_numpy(zero_copy_only=False)
    dimension, rest = divmod(len(values), len(lists))
    lengths = np.diff(lists.offsets.to_numpy())
    if rest or (lengths != dimension).any():
        raise UsageError(
            f"vectors of {lengths.min()} and of {lengths.max()} numbers in one table: two models were mixed"
        )
    return values.reshape(len(lists), dimension)


def unit_vectors(column: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(rows that have a direction, their vectors at unit length) of a column of equally long vectors.

    Null, NaN, infinite and zero vectors have none.

    Raises:
        UsageError: the vectors have different lengths.
    """
    rows = np.flatnonzero(pc.greater(pc.fill_null(pc.list_value_length(column), 0), 0).to_numpy(zero_copy_only=False))
    if not len(rows):
        return rows, np.empty((0, 0), np.float32)
    filled = column if len(rows) == len(column) else column.take(pa.array(rows))
    vectors = matrix(pa.chunked_array([filled]))
    usable = np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)
    return rows[usable], unit_rows(vectors[usable])


def as_lists(vectors: NDArray[np.floating]) -> pa.ListArray:
    """(n, d) as a column of lists, without Python objects."""
    rows, width = vectors.shape
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32) * np.int32(width)), vectors.ravel())


def block_row(ddl: str, *values: Any) -> pa.RecordBatch:
    """One row as an Arrow batch, with the types of ``ddl``."""
    types = {"bigint": pa.int64(), "int": pa.int32(), "binary": pa.binary(), "array<string>": pa.list_(pa.string())}
    columns = [part.split() for part in ddl.split(", ")]
    arrays = [pa.array([value], types[kind]) for (_, kind), value in zip(columns, values, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=[name for name, _ in columns])


def next_block_number(count: int) -> int:
    """A number that no other block of this plan has."""
    return partition() * ORDINALS_PER_TASK + count


def partition() -> int:
    """The partition that this task works on."""
    context = TaskContext.get()
    return context.partitionId() if context else 0
