"""User profiles against item vectors: the blockwise exact cosine Top-K join."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.blocks import (
    IdIndex,
    block_row,
    is_usable,
    item_block,
    join_blocks,
    matrix,
    next_block_number,
    pack_items,
    records,
    slices,
)
from recsys_spark.errors import UsageError
from recsys_spark.kernels.topk import NONE, RunningTopK
from recsys_spark.kernels.vectors import unit_rows

_USER_BLOCK_DDL = (
    "user_block bigint, user_ids array<string>, user_vectors binary, user_dimension int, "
    "seen_rows binary, seen_ids array<string>"
)
_RESULT_DDL = "user_id string, item_id string, score float, rank int"


def top_k_join(
    profiles: DataFrame,
    items: DataFrame,
    k: int,
    *,
    seen: DataFrame | None = None,
    user_block_rows: int = 4096,
    item_block_rows: int = 8192,
    tasks: int | None = None,
) -> DataFrame:
    """The k items of greatest cosine for every user, seen items excluded before the cut.

    Args:
        profiles: ``user_id, embedding`` (array<float>, any length of vector; zero, NaN and null vectors are left out).
        items: ``item_id, embedding``, of the same dimension.
        k: list length; a user with fewer eligible items gets a shorter list.
        seen: ``user_id, item_id`` pairs that must not be listed.
        user_block_rows, item_block_rows: B and n; a task holds about 4·(B·d + n·d + 2·B·n) + 12·B·k bytes.
            The result does not depend on them.
        tasks: number of user partitions; by default twice the cores.

    Returns:
        ``user_id, item_id, score, rank``: score descending then item_id ascending, ranks from 1. Scores are the
        cosine computed in float64 from float32 unit vectors, rounded to float32; equal scores are ties and fall to
        the smaller item_id.

    Raises:
        UsageError: k < 1; in the tasks: dimensions of profiles and items differ.
    """
    if k < 1:
        raise UsageError(f"k must be at least 1, found {k}")
    # Reached through the DataFrame: how many tasks run at once changes nothing but the time.
    tasks = tasks or 2 * profiles.sparkSession.sparkContext.defaultParallelism
    users = profiles.where(is_usable(F.col("embedding"))).select("user_id", "embedding")
    users = _with_seen(users, seen).repartition(tasks, "user_id").sortWithinPartitions("user_id")
    user_blocks = users.mapInArrow(_pack_users(user_block_rows), _USER_BLOCK_DDL)
    item_blocks = pack_items(items, item_block_rows, partitions=tasks)
    joined = join_blocks(user_blocks, item_blocks, _join(k), _RESULT_DDL)
    return joined.select("user_id", "item_id", "score", "rank")


def _with_seen(users: DataFrame, seen: DataFrame | None) -> DataFrame:
    if seen is None:
        return users.withColumn("seen", F.lit(None).cast("array<string>"))
    lists = seen.groupBy("user_id").agg(F.collect_set("item_id").alias("seen"))
    return users.join(lists, on="user_id", how="left").select("user_id", "embedding", "seen")


def _pack_users(rows: int) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def pack(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for count, part in enumerate(slices(batches, rows)):
            vectors = unit_rows(matrix(part["embedding"]))
            seen = part["seen"].combine_chunks()
            owners = pc.list_parent_indices(seen).to_numpy().astype(np.int32)
            yield block_row(
                _USER_BLOCK_DDL,
                next_block_number(count),
                part["user_id"].to_pylist(),
                vectors.tobytes(),
                vectors.shape[1],
                owners.tobytes(),
                seen.flatten().to_pylist(),
            )

    return pack


def _join(k: int) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def join(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        state: _UserBlock | None = None
        ids: dict[int, pa.Array] = {}
        for record in records(batches):
            number = record["user_block"].as_py()
            if state is None or state.number != number:
                if state is not None:
                    yield state.lists(ids)
                state = _UserBlock(number, record, k)
            state.offer(record, ids)
        if state is not None:
            yield state.lists(ids)

    return join


class _UserBlock:
    """One block of users on its way past the item blocks."""

    def __init__(self, number: int, record: dict[str, Any], k: int) -> None:
        self.number = number
        self._user_ids = record["user_ids"].values
        self._dimension = record["user_dimension"].as_py()
        vectors = np.frombuffer(record["user_vectors"].as_buffer(), np.float32).reshape(-1, self._dimension).copy()
        self._seen_rows = np.frombuffer(record["seen_rows"].as_py(), np.int32).astype(np.int64)
        self._seen = IdIndex(record["seen_ids"].values)
        self._running = RunningTopK(vectors, k)

    def offer(self, record: dict[str, Any], ids: dict[int, pa.Array]) -> None:
        """Let the lists meet the next item block."""
        first, block_ids, vectors = item_block(record)
        if vectors.shape[1] != self._dimension:
            raise UsageError(
                f"profiles have {self._dimension} numbers, items {vectors.shape[1]}: they come from different models; "
                "run build_item_vectors and build_profiles again"
            )
        ids.setdefault(first, block_ids)
        places, columns = self._seen.matches(block_ids)
        self._running.update(vectors, first, (self._seen_rows[places], columns))

    def lists(self, ids: dict[int, pa.Array]) -> pa.RecordBatch:
        """The finished lists as rows, in the order of users and ranks."""
        rows, places = np.nonzero(self._running.ordinals != NONE)
        ordinals = self._running.ordinals[rows, places]
        firsts = np.array(sorted(ids), np.int64)
        starts = np.cumsum([0, *(len(ids[first]) for first in firsts)])
        block = np.searchsorted(firsts, ordinals, "right") - 1
        catalogue = pa.chunked_array([ids[first] for first in firsts], pa.string())
        picked = catalogue.take(pa.array(starts[block] + ordinals - firsts[block], pa.int64()))
        columns = [
            self._user_ids.take(pa.array(rows)),
            picked.combine_chunks(),
            pa.array(self._running.scores[rows, places], pa.float32()),
            pa.array(places + 1, pa.int32()),
        ]
        return pa.RecordBatch.from_arrays(columns, names=["user_id", "item_id", "score", "rank"])
