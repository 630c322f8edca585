"""Events to user states: a user's last items in their order, and the transformer over their vectors. Pure DataFrame
functions."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark import TaskContext
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.arrays.arrow import as_lists, slices
from recsys_spark.arrays.id_index import IdIndex
from recsys_spark.arrays.vectors import Matrix
from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.runtime.task import task_device

if TYPE_CHECKING:
    from pyspark import Broadcast

    from recsys_spark.sequence.kernels.model_files import SequenceFiles

TIE_SEED = 0
"""Seed of the hash that orders events of a user at the same time, in training and here: ids are often numbered by a
rule, which a model would learn."""

_USERS_AT_ONCE = 8192

_STATE_DDL = "user_id string, embedding array<float>"


def last_items(events: DataFrame, items: DataFrame, event_types: Sequence[str], length: int) -> DataFrame:
    """``user_id, items``: the items of each user's newest ``length`` events, the oldest first.

    Events with the same item and time count once. Of events at the same time, a hash decides.

    Args:
        events: ``user_id, item_id, event_type, timestamp``.
        items: ``item_id``; events of other items do not count.
        event_types: that count.
        length: maximum number of events.
    """
    counted = events.where(F.col("event_type").isin(*event_types)).join(items, on="item_id", how="left_semi")
    once = counted.groupBy("user_id", "item_id", "timestamp").agg(F.count("*").alias("events"))
    tie = F.xxhash64("user_id", "item_id", F.lit(TIE_SEED))
    newest = Window.partitionBy("user_id").orderBy(F.desc("timestamp"), tie, F.desc("item_id"))
    aged = once.withColumn("age", F.row_number().over(newest)).where(F.col("age") <= length)
    event = F.struct((-F.col("age")).alias("place"), "item_id")
    users = aged.groupBy("user_id").agg(F.array_sort(F.collect_list(event)).alias("events"))
    return users.select("user_id", F.col("events.item_id").alias("items"))


def user_state_rows(
    histories: DataFrame, items: ItemBlocks, model: "Broadcast[SequenceFiles]", *, tasks: int
) -> DataFrame:
    """``user_id, embedding``: the state after a user's last event, and a 0 for the last number of an item's vector.

    Items without a vector are left out of a history; a user without any other has a state of zeros. A task has in
    memory the vectors of the distinct items of a batch of users, and one item block.

    Args:
        histories: from ``last_items``.
        items: blocks of ``cosine_vectors``.
        model: the model.
        tasks: number of tasks.
    """

    def encode(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for part in slices(batches, _USERS_AT_ONCE):
            yield _states(part, items, model.value)

    return histories.repartition(tasks, "user_id").mapInArrow(encode, _STATE_DDL)


def _states(part: pa.Table, items: ItemBlocks, model: "SequenceFiles") -> pa.RecordBatch:
    from recsys_spark.sequence.kernels.user_encoder import encoded_users  # imports torch

    lists = part["items"].combine_chunks()
    events = lists.flatten().dictionary_encode()
    vectors, present = _vectors_of(events.dictionary, items, model.shape.width)
    rows = events.indices.to_numpy().astype(np.int64)
    counted = np.append(0, np.cumsum(present[rows]))
    offsets = lists.offsets.to_numpy().astype(np.int64)
    context = TaskContext.get()
    threads = max(1, context.cpus()) if context else 1
    states = encoded_users(
        model, vectors, rows[present[rows]], counted[offsets - offsets[0]], task_device(context), threads
    )
    embedding = as_lists(np.column_stack([states, np.zeros(len(states), np.float32)]))
    return pa.RecordBatch.from_arrays([part["user_id"].combine_chunks(), embedding], names=["user_id", "embedding"])


def _vectors_of(ids: pa.Array, items: ItemBlocks, width: int) -> tuple[Matrix, NDArray[np.bool_]]:
    """((n, width) vectors of items, (n,) whether there is one), read from one item block after the other."""
    index = IdIndex(ids)
    vectors, present = np.zeros((len(ids), width), np.float32), np.zeros(len(ids), bool)
    for block in items.blocks():
        rows, places = index.matches(block["item_id"])
        units = block["embedding"].values.to_numpy().reshape(block.num_rows, -1)[places, :width]
        vectors[rows] = units * block["scale"].to_numpy()[places, None]
        present[rows] = True
        del block  # otherwise two blocks are in memory while the next one is read
    return vectors, present
