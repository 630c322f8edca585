"""What evaluation fits beside item weights, from DataFrames to arrays that fit into the driver. Items grow there, users
and events do not."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.arrays.arrow import slices
from recsys_spark.arrays.sparse import flat
from recsys_spark.evaluate.kernels.scorers import co_occurrence_gram

_USERS_AT_ONCE = 65_536

_GRAM_DDL = "indptr binary, indices binary, data binary"

_GRAM_SCHEMA = pa.schema({"indptr": pa.binary(), "indices": pa.binary(), "data": pa.binary()})


def partial_grams(users: DataFrame, items: int, last_role: int) -> DataFrame:
    """``indptr, indices, data`` (CSR): users in common of each two items, of the users of one task.

    ``users``: from ``protocols.user_rows``; their events of roles up to ``last_role`` count, with weights above 0.
    """

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        total = sp.csr_array((items, items))
        for part in slices(batches, _USERS_AT_ONCE):
            rows, offsets = flat(part["items"].combine_chunks())
            roles, weights = (flat(part[name].combine_chunks())[0] for name in ("roles", "weights"))
            owner = np.repeat(np.arange(len(part)), np.diff(offsets))
            kept = (roles <= last_role) & (weights > 0)
            had = sp.csr_array((np.ones(int(kept.sum())), (owner[kept], rows[kept])), shape=(len(part), items))
            had.data[:] = 1  # duplicates were summed: an item that came again counts once
            total = total + co_occurrence_gram(had)
        arrays = {
            "indptr": total.indptr.astype(np.int64),
            "indices": total.indices.astype(np.int32),
            "data": total.data,
        }
        yield pa.RecordBatch.from_pylist([{n: array.tobytes() for n, array in arrays.items()}], _GRAM_SCHEMA)

    fitted = users.where("fitted").select("items", "roles", "weights")
    return fitted.mapInArrow(count, _GRAM_DDL)


def item_users(users: DataFrame, last_role: int) -> DataFrame:
    """``row, users``: how many of the fitted users had each item that any had; the diagonal of the sum of
    ``partial_grams``, without the pairs."""
    events = F.arrays_zip("items", "roles", "weights")
    counted = F.filter(events, lambda event: (event["roles"] <= last_role) & (event["weights"] > 0))
    had = users.where("fitted").select(F.explode(F.array_distinct(counted["items"])).alias("row"))
    return had.groupBy("row").agg(F.count("*").alias("users"))


def gram_of(rows: list[tuple[bytes, bytes, bytes]], items: int) -> sp.csr_array:
    """(n, n) the sum of ``partial_grams``."""
    total = sp.csr_array((items, items))
    for indptr, indices, data in rows:
        arrays = (np.frombuffer(data), np.frombuffer(indices, np.int32), np.frombuffer(indptr, np.int64))
        total = total + sp.csr_array(arrays, shape=(items, items))
    return total


def fitted_pairs(users: DataFrame, items: DataFrame, last_role: int) -> DataFrame:
    """``user_id, item_id`` of the events that are fitted on: what item features are made of."""
    events = F.explode(F.arrays_zip("items", "roles", "weights")).alias("event")
    known = (
        users.where("fitted")
        .select("user_id", events)
        .where((F.col("event.roles") <= last_role) & (F.col("event.weights") > 0))
    )
    return known.join(items, on=F.col("event.items") == items["row"]).select("user_id", "item_id")


def words_matrix(words: pa.Table, ids: pa.Array) -> sp.csr_array:
    """(n, words) the unit rows of ``item_features.word_values``, in the order of ``ids``."""
    codes, offsets = flat(words["words"].combine_chunks())
    values, _ = flat(words["word_values"].combine_chunks())
    _, columns = np.unique(codes, return_inverse=True)
    owner = np.repeat(pc.index_in(words["item_id"], ids).to_numpy(), np.diff(offsets))
    shape = len(ids), int(columns.max(initial=-1)) + 1
    return sp.csr_array((values.astype(np.float64), (owner, columns)), shape=shape)


def weights_matrix(weights: pa.Table, ids: pa.Array) -> sp.csr_array:
    """(n, n), column = scored item, from ``item_id, neighbor_id, weight``."""
    where = tuple(pc.index_in(weights[name], ids).to_numpy() for name in ("neighbor_id", "item_id"))
    return sp.csr_array((weights["weight"].to_numpy().astype(np.float64), where), shape=(len(ids), len(ids)))
