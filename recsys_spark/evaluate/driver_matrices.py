"""DataFrames to the arrays on the driver that scorers are fitted on, except item weights.

Their size grows with the items, not with users or events.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.arrays.arrow import slices
from recsys_spark.arrays.sparse import flat
from recsys_spark.evaluate.kernels.recency import ItemCounts, item_counts, total_counts
from recsys_spark.evaluate.kernels.scorers import co_occurrence_gram

_USERS_AT_ONCE = 65_536

_GRAM_DDL = "indptr binary, indices binary, data binary"

_GRAM_SCHEMA = pa.schema({"indptr": pa.binary(), "indices": pa.binary(), "data": pa.binary()})

_COUNTS_DDL = "users binary, recent binary, newest double"

_COUNTS_SCHEMA = pa.schema({"users": pa.binary(), "recent": pa.binary(), "newest": pa.float64()})


def partial_grams(users: DataFrame, items: int, last_role: int) -> DataFrame:
    """``indptr, indices, data`` (CSR): the users that each two items have in common, one row per task for its users.

    ``users``: from ``protocols.user_rows``; events with roles up to ``last_role`` and weights above 0 count.
    """

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        total = sp.csr_array((items, items))
        for part in slices(batches, _USERS_AT_ONCE):
            rows, offsets = flat(part["items"].combine_chunks())
            roles, weights = (flat(part[name].combine_chunks())[0] for name in ("roles", "weights"))
            owner = np.repeat(np.arange(len(part)), np.diff(offsets))
            counted = (roles <= last_role) & (weights > 0)
            entries = np.ones(int(counted.sum())), (owner[counted], rows[counted])
            histories = sp.csr_array(entries, shape=(len(part), items))
            histories.data[:] = 1  # duplicates were summed: a repeated item counts once
            total = total + co_occurrence_gram(histories)
        arrays = {
            "indptr": total.indptr.astype(np.int64),
            "indices": total.indices.astype(np.int32),
            "data": total.data,
        }
        row = {name: array.tobytes() for name, array in arrays.items()}
        yield pa.RecordBatch.from_pylist([row], _GRAM_SCHEMA)

    fitted = users.where("fitted").select("items", "roles", "weights")
    return fitted.mapInArrow(count, _GRAM_DDL)


def partial_counts(users: DataFrame, items: int, last_role: int) -> DataFrame:
    """``users, recent, newest``: the arrays of ``ItemCounts``, one row per task for its fitted users.

    ``users``: from ``protocols.user_rows``; events with roles up to ``last_role`` and weights above 0 count.
    """

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        parts = []
        for part in slices(batches, _USERS_AT_ONCE):
            rows, offsets = flat(part["items"].combine_chunks())
            roles, weights, days = (flat(part[name].combine_chunks())[0] for name in ("roles", "weights", "days"))
            owner = np.repeat(np.arange(len(part)), np.diff(offsets))
            counted = (roles <= last_role) & (weights > 0)
            parts.append(
                item_counts(owner[counted], rows[counted].astype(np.int64), days[counted].astype(np.float64), items)
            )
        total = total_counts(parts, items)
        row = {"users": total.users.tobytes(), "recent": total.recent.tobytes(), "newest": total.newest}
        yield pa.RecordBatch.from_pylist([row], _COUNTS_SCHEMA)

    return users.where("fitted").select("items", "roles", "weights", "days").mapInArrow(count, _COUNTS_DDL)


def counts_of(rows: list[tuple[bytes, bytes, float]], items: int) -> ItemCounts:
    """The sum of ``partial_counts``."""
    parts = [
        ItemCounts(np.frombuffer(users, np.int64), np.frombuffer(recent).reshape(-1, items), newest)
        for users, recent, newest in rows
    ]
    return total_counts(parts, items)


def gram_of(rows: list[tuple[bytes, bytes, bytes]], items: int) -> sp.csr_array:
    """(n, n): the sum of ``partial_grams``."""
    total = sp.csr_array((items, items))
    for indptr, indices, data in rows:
        arrays = (np.frombuffer(data), np.frombuffer(indices, np.int32), np.frombuffer(indptr, np.int64))
        total = total + sp.csr_array(arrays, shape=(items, items))
    return total


def fitted_pairs(users: DataFrame, items: DataFrame, last_role: int) -> DataFrame:
    """``user_id, item_id`` of the events to fit on, from which item features are made."""
    events = F.explode(F.arrays_zip("items", "roles", "weights")).alias("event")
    fitted = (
        users.where("fitted")
        .select("user_id", events)
        .where((F.col("event.roles") <= last_role) & (F.col("event.weights") > 0))
    )
    return fitted.join(items, on=F.col("event.items") == items["row"]).select("user_id", "item_id")


def words_matrix(words: pa.Table, ids: pa.Array) -> sp.csr_array:
    """(n, words): the unit rows of ``item_features.word_values``, in the order of ``ids``."""
    codes, offsets = flat(words["words"].combine_chunks())
    values, _ = flat(words["word_values"].combine_chunks())
    _, columns = np.unique(codes, return_inverse=True)
    owner = np.repeat(pc.index_in(words["item_id"], ids).to_numpy(), np.diff(offsets))
    shape = len(ids), int(columns.max(initial=-1)) + 1
    return sp.csr_array((values.astype(np.float64), (owner, columns)), shape=shape)


def weights_matrix(weights: pa.Table, ids: pa.Array) -> sp.csr_array:
    """(n, n), column = scored item, from ``item_id, neighbor_id, weight``."""
    rows, columns = (pc.index_in(weights[name], ids).to_numpy() for name in ("neighbor_id", "item_id"))
    values = weights["weight"].to_numpy().astype(np.float64)
    return sp.csr_array((values, (rows, columns)), shape=(len(ids), len(ids)))
