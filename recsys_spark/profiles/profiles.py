"""User profiles: weighted, decayed sums of item vectors. Pure DataFrame functions.

Spark first reduces events to one weight per (user, item), so that a user with a million events costs one partial
aggregate. Only these slim rows are joined with the item vectors, which tasks read block by block from files. No vector
is ever shuffled or broadcast.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.arrays.arrow import as_lists
from recsys_spark.arrays.id_index import IdIndex
from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.events.weights import GRID
from recsys_spark.profiles.kernels.interests import CLUSTERED
from recsys_spark.profiles.kernels.pooling import accumulate

_SUMS_AT_ONCE = 2**25
"""Numbers in the sums that a task of ``pool_items`` has in memory at once (268 MB)."""

_SUM_DDL = "user_id string, embedding array<double>, events bigint, last_timestamp timestamp"


def segment_pairs(pairs: DataFrame, users: DataFrame) -> DataFrame:
    """Add ``pairs`` over the users of each locale, with the locale as ``user_id``, for ``pool_items``.

    Users without a locale are left out.
    """
    locales = users.where(F.col("locale").isNotNull()).select("user_id", "locale")
    # Decimals have the same sum in any order, and millions of users do not overflow them.
    units = F.sum(F.round(F.col("weight") * GRID).cast("decimal(38,0)")).cast("double")
    by_locale = (
        pairs.join(locales, on="user_id", how="inner")
        .groupBy("locale", "item_id")
        .agg(units.alias("units"), F.sum("events").alias("events"), F.max("last_timestamp").alias("last_timestamp"))
    )
    weight = (F.col("units") / GRID).alias("weight")
    return by_locale.select(F.col("locale").alias("user_id"), "item_id", weight, "events", "last_timestamp")


def user_segments(users: DataFrame, sums: DataFrame) -> DataFrame:
    """``user_id, segment``: the sum of each user's locale at unit length.

    ``sums``: from ``pool_items`` of ``segment_pairs``.
    """
    norm = F.sqrt(F.aggregate("embedding", F.lit(0.0), lambda total, x: total + x * x))
    units = sums.select(F.col("user_id").alias("locale"), "embedding", norm.alias("norm")).where(F.col("norm") > 0)
    segments = units.select("locale", F.transform("embedding", lambda x: x / F.col("norm")).alias("segment"))
    return users.join(segments, on="locale", how="inner").select("user_id", "segment")


def pool_items(pairs: DataFrame, items: ItemBlocks, *, tasks: int, pair_block_rows: int = 262_144) -> DataFrame:
    """``user_id, embedding (array<double>), events, last_timestamp``: Σ weight · v(item) in the order of item_id.

    Items without a vector add nothing to the sum; their events are counted in ``events``. A task has in memory the
    pairs of a batch of users (about ``pair_block_rows``, and all pairs of a user with more), their sums of at most 2²⁵
    numbers, and one item block.

    Args:
        items: sorted by item_id.
        tasks: number of tasks.
    """
    by_user = pairs.repartition(tasks, "user_id").sortWithinPartitions("user_id", "item_id")

    def pool(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for part in (
            _whole_users(batches, pair_block_rows, max(_SUMS_AT_ONCE // items.dimension, 1)) if items.rows else ()
        ):
            users = _UserSums(part, items.dimension)
            for block in items.blocks():
                users.add(block)
                del block  # otherwise two blocks are in memory while the next one is read
            yield users.rows()

    return by_user.mapInArrow(pool, _SUM_DDL)


def profile_rows(
    sums: DataFrame,
    texts: DataFrame,
    space: str,
    *,
    dimension: int,
    prior: float,
    segments: DataFrame | None = None,
    segment_weight: float = 0.0,
) -> DataFrame:
    """Rows of user_profiles: the sum of a user's items + ``prior`` × text + ``segment_weight`` × segment.

    ``prior`` and ``segment_weight`` are in events of weight 1: text and segment count for much where a history is
    short, and are the whole profile of a user without events. Users without any of the three, or whose sum is zero, are
    absent.

    Args:
        sums: from ``pool_items``.
        texts: ``user_id, embedding`` of the user's text, by the encoder of ``space``.
        space: the vector space of the items.
        dimension: width of an item vector, of which the text block is the first part.
        prior: weight of the text.
        segments: from ``user_segments``.
    """
    text_vectors = texts.select("user_id", F.col("embedding").alias("text"))
    parts = sums.join(text_vectors, on="user_id", how="full")
    scaled = F.transform("text", lambda x: x.cast("double") * prior)
    padded = F.concat(scaled, F.array_repeat(F.lit(0.0), dimension - F.size("text")))
    total = _plus(F.col("embedding"), padded)
    if segments is not None:
        parts = parts.join(segments, on="user_id", how="full")
        total = _plus(total, F.transform("segment", lambda x: x * segment_weight))
    profiles = parts.select(
        "user_id",
        F.lit(space).alias("model"),
        total.cast("array<float>").alias("embedding"),
        F.coalesce("events", F.lit(0).cast("bigint")).alias("events"),
        "last_timestamp",
        F.col("last_timestamp").alias("reference_time"),
    )
    return profiles.where(is_usable(F.col("embedding")))


def with_positive_items(profiles: DataFrame, pairs: DataFrame, vectors: DataFrame) -> DataFrame:
    """Add ``liked, liked_weights`` to profiles: the CLUSTERED items of greatest positive weight that have a vector.

    They are in the order of item_id.
    """
    positive = pairs.where("weight > 0").join(vectors.select("item_id"), on="item_id", how="left_semi")
    order = F.array_sort(F.collect_list(F.struct((-F.col("weight")).alias("less"), "item_id")))
    heaviest = positive.groupBy("user_id").agg(F.slice(order, 1, CLUSTERED).alias("heaviest"))
    entries = F.transform("heaviest", lambda one: F.struct(one["item_id"].alias("id"), (-one["less"]).alias("weight")))
    liked = heaviest.select("user_id", F.array_sort(entries).alias("liked"))
    liked = liked.select("user_id", F.col("liked.id").alias("liked"), F.col("liked.weight").alias("liked_weights"))
    return profiles.join(liked, on="user_id", how="left")


def _plus(left: Column, right: Column) -> Column:
    """The sum of two vectors; if one is null, the other."""
    return F.coalesce(F.zip_with(left, right, lambda x, y: x + y), left, right)


def _whole_users(batches: Iterator[pa.RecordBatch], rows: int, users: int) -> Iterator[pa.Table]:
    """Sorted pairs as tables of about ``rows`` rows and at most ``users`` users, cut between users."""
    pending: list[pa.RecordBatch] = []
    count, wanted = 0, rows
    for batch in batches:
        pending.append(batch)
        count += batch.num_rows
        if count >= wanted:
            table = pa.Table.from_batches(pending)
            starts = _first_rows(table)
            border = int(starts[-1])
            yield from _split_users(table.slice(0, border), starts[:-1], users)
            pending, count = table.slice(border).to_batches(), table.num_rows - border
            # The last user may have more pairs than a table: wait until they have doubled, not for the next batch.
            wanted = max(rows, 2 * count)
    if count:
        table = pa.Table.from_batches(pending)
        yield from _split_users(table, _first_rows(table), users)


def _split_users(table: pa.Table, starts: NDArray[np.int64], users: int) -> Iterator[pa.Table]:
    """Parts of at most ``users`` users. ``starts``: the first row of each user."""
    for first in range(0, len(starts), users):
        end = starts[first + users] if first + users < len(starts) else table.num_rows
        yield table.slice(starts[first], end - starts[first])


def _first_rows(table: pa.Table) -> NDArray[np.int64]:
    """The first row of each user in sorted pairs."""
    names = table["user_id"].combine_chunks()
    changes = pc.not_equal(names.slice(1), names.slice(0, len(names) - 1)).to_numpy(zero_copy_only=False)
    return np.flatnonzero(np.r_[True, changes])


class _UserSums:
    """The sums of a batch of users, to which item blocks are added one after another."""

    def __init__(self, pairs: pa.Table, dimension: int) -> None:
        self._starts = _first_rows(pairs)
        self._owners = np.repeat(np.arange(len(self._starts)), np.diff(np.r_[self._starts, pairs.num_rows]))
        self._pairs, self._weights = pairs, pairs["weight"].to_numpy().astype(np.float64)
        self._items = IdIndex(pairs["item_id"].combine_chunks())
        self._sums = np.zeros((len(self._starts), dimension))

    def add(self, block: pa.RecordBatch) -> None:
        """Add the vectors of the next item block."""
        vectors = block["embedding"].values.to_numpy().reshape(block.num_rows, -1)
        pairs, items = self._items.matches(block["item_id"])
        for start in range(0, len(pairs), 16_384):  # bounds the copy of item vectors
            part = slice(start, start + 16_384)
            accumulate(self._sums, self._owners[pairs[part]], self._weights[pairs[part]], vectors[items[part]])

    def rows(self) -> pa.RecordBatch:
        """One row per user, as ``pool_items`` returns them."""
        last = self._pairs["last_timestamp"].cast(pa.int64()).to_numpy()
        columns = [
            self._pairs["user_id"].take(pa.array(self._starts)).combine_chunks(),
            as_lists(self._sums),
            pa.array(np.add.reduceat(self._pairs["events"].to_numpy(), self._starts)),
            pa.array(np.maximum.reduceat(last, self._starts), pa.timestamp("us", tz="UTC")),
        ]
        return pa.RecordBatch.from_arrays(columns, names=["user_id", "embedding", "events", "last_timestamp"])


def is_usable(embedding: Column) -> Column:
    """True for a vector that has a direction: not null, not empty, finite, not all zero."""
    bad = F.exists(embedding, lambda x: x.isNull() | F.isnan(x) | (F.abs(x) == float("inf")))
    return F.coalesce(~bad & F.exists(embedding, lambda x: x != 0), F.lit(False))
