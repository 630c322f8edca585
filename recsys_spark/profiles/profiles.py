"""A user's events to one profile: weighted, decayed, additive. Pure DataFrame functions.

Events are first reduced to one weight per (user, item): slim rows, aggregated natively, so a user with a million
events costs one partial aggregate. Only these meet the item vectors, block by block as they are read from files: no
vector is ever shuffled or broadcast.
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

_HELD = 2**25
"""Numbers of the sums that a task of ``pool_items`` holds at once (268 MB)."""

_SUM_DDL = "user_id string, embedding array<double>, events bigint, last_timestamp timestamp"


def segment_pairs(pairs: DataFrame, users: DataFrame) -> DataFrame:
    """``pairs`` of all users of a locale added up, the locale in the place of the user: ``pool_items`` makes one sum of
    each. Users without a locale are in none."""
    known = users.where(F.col("locale").isNotNull()).select("user_id", "locale")
    # Decimals add up to the same sum in any order, and millions of users do not overflow them.
    units = F.sum(F.round(F.col("weight") * GRID).cast("decimal(38,0)")).cast("double")
    whole = (
        pairs.join(known, on="user_id", how="inner")
        .groupBy("locale", "item_id")
        .agg(units.alias("units"), F.sum("events").alias("events"), F.max("last_timestamp").alias("last_timestamp"))
    )
    weight = (F.col("units") / GRID).alias("weight")
    return whole.select(F.col("locale").alias("user_id"), "item_id", weight, "events", "last_timestamp")


def own_segments(users: DataFrame, sums: DataFrame) -> DataFrame:
    """``user_id, segment``: to each user the sum of the own locale at unit length, from the sums of
    ``segment_pairs``."""
    norm = F.sqrt(F.aggregate("embedding", F.lit(0.0), lambda total, x: total + x * x))
    units = sums.select(F.col("user_id").alias("locale"), "embedding", norm.alias("norm")).where(F.col("norm") > 0)
    shown = units.select("locale", F.transform("embedding", lambda x: x / F.col("norm")).alias("segment"))
    return users.join(shown, on="locale", how="inner").select("user_id", "segment")


def pool_items(pairs: DataFrame, items: ItemBlocks, *, tasks: int, pair_block_rows: int = 262_144) -> DataFrame:
    """``user_id, embedding (array<double>), events, last_timestamp``: Σ weight · v(item), summed in the order of
    item_id.

    Items without a vector add nothing; a user's ``events`` counts theirs too. ``items`` lie in the order of item_id. A
    task holds the pairs of some users (about ``pair_block_rows``, and all of a user who has more), their sums, of at
    most 2²⁵ numbers, and one item block.
    """
    by_user = pairs.repartition(tasks, "user_id").sortWithinPartitions("user_id", "item_id")

    def pool(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for part in _whole_users(batches, pair_block_rows, max(_HELD // items.dimension, 1)) if items.rows else ():
            users = _UserSums(part, items.dimension)
            for block in items.blocks():
                users.add(block)
                del block  # or two would be held while the next one is read
            yield users.rows()

    return by_user.mapInArrow(pool, _SUM_DDL)


def profile_rows(
    sums: DataFrame,
    own_texts: DataFrame,
    space: str,
    *,
    dimension: int,
    prior: float,
    segments: DataFrame | None = None,
    segment_weight: float = 0.0,
) -> DataFrame:
    """The sum of a user's items plus ``prior`` × the embedding of the user's own text, plus ``segment_weight`` × the
    user's segment.

    Both are in units of one event of weight 1, so they count for much where a history is short, and a user without
    events is known by them alone. A user with none of the three, or whose parts cancel to zero, is absent.

    Args:
        sums: from ``pool_items``.
        own_texts: ``user_id, embedding`` of the encoder of ``space``.
        dimension: numbers of an item vector; the text block is the first of them.
        segments: from ``own_segments``.
    """
    own = own_texts.select("user_id", F.col("embedding").alias("own"))
    parts = sums.join(own, on="user_id", how="full")
    scaled = F.transform("own", lambda x: x.cast("double") * prior)
    padded = F.concat(scaled, F.array_repeat(F.lit(0.0), dimension - F.size("own")))
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
    """Profiles with ``liked, liked_weights``: the heaviest items of positive weight that have a vector, in the order of
    item_id, and what each counts."""
    known = pairs.where("weight > 0").join(vectors.select("item_id"), on="item_id", how="left_semi")
    order = F.array_sort(F.collect_list(F.struct((-F.col("weight")).alias("less"), "item_id")))
    heaviest = known.groupBy("user_id").agg(F.slice(order, 1, CLUSTERED).alias("heaviest"))
    own = F.transform("heaviest", lambda one: F.struct(one["item_id"].alias("id"), (-one["less"]).alias("weight")))
    lists = heaviest.select("user_id", F.array_sort(own).alias("own"))
    lists = lists.select("user_id", F.col("own.id").alias("liked"), F.col("own.weight").alias("liked_weights"))
    return profiles.join(lists, on="user_id", how="left")


def _plus(left: Column, right: Column) -> Column:
    """The sum of two vectors of which either may be null."""
    return F.coalesce(F.zip_with(left, right, lambda x, y: x + y), left, right)


def _whole_users(batches: Iterator[pa.RecordBatch], rows: int, users: int) -> Iterator[pa.Table]:
    """Sorted pairs in tables of about ``rows``, cut where one user ends and another begins, of at most ``users``."""
    held: list[pa.RecordBatch] = []
    count, wanted = 0, rows
    for batch in batches:
        held.append(batch)
        count += batch.num_rows
        if count >= wanted:
            table = pa.Table.from_batches(held)
            starts = _first_rows(table)
            border = int(starts[-1])
            yield from _of_users(table.slice(0, border), starts[:-1], users)
            held, count = table.slice(border).to_batches(), table.num_rows - border
            # The last user may have more pairs than a table: look again when they have doubled, not at every batch.
            wanted = max(rows, 2 * count)
    if count:
        table = pa.Table.from_batches(held)
        yield from _of_users(table, _first_rows(table), users)


def _of_users(table: pa.Table, starts: NDArray[np.int64], users: int) -> Iterator[pa.Table]:
    for first in range(0, len(starts), users):
        end = starts[first + users] if first + users < len(starts) else table.num_rows
        yield table.slice(starts[first], end - starts[first])


def _first_rows(table: pa.Table) -> NDArray[np.int64]:
    """The rows of sorted pairs in which a user begins."""
    names = table["user_id"].combine_chunks()
    changes = pc.not_equal(names.slice(1), names.slice(0, len(names) - 1)).to_numpy(zero_copy_only=False)
    return np.flatnonzero(np.r_[True, changes])


class _UserSums:
    """Some users on their way past the item blocks."""

    def __init__(self, pairs: pa.Table, dimension: int) -> None:
        self._starts = _first_rows(pairs)
        self._owners = np.repeat(np.arange(len(self._starts)), np.diff(np.r_[self._starts, pairs.num_rows]))
        self._pairs, self._weights = pairs, pairs["weight"].to_numpy().astype(np.float64)
        self._items = IdIndex(pairs["item_id"].combine_chunks())
        self._sums = np.zeros((len(self._starts), dimension))

    def add(self, block: pa.RecordBatch) -> None:
        """Add what lies in the next item block."""
        vectors = block["embedding"].values.to_numpy().reshape(block.num_rows, -1)
        places, columns = self._items.matches(block["item_id"])
        for start in range(0, len(places), 16_384):  # bounds the copy of item vectors
            part = slice(start, start + 16_384)
            accumulate(self._sums, self._owners[places[part]], self._weights[places[part]], vectors[columns[part]])

    def rows(self) -> pa.RecordBatch:
        """One row per user."""
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
