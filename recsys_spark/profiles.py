"""A user's events to one profile: weighted, decayed, additive. Pure DataFrame functions.

Events are first reduced to one weight per (user, item): slim rows, aggregated natively, so a user with a million
events costs one partial aggregate. Only these meet the item vectors, block by block, and no vector is ever shuffled.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.blocks import (
    IdIndex,
    as_lists,
    block_row,
    is_usable,
    item_block,
    join_blocks,
    next_block_number,
    pack_items,
    records,
)
from recsys_spark.histories import History, counted_events, damp_popular
from recsys_spark.kernels.pooling import accumulate

_PLAIN = History()
GRID = 2.0**40
"""Weights are whole numbers of its inverse, so that they add up to the same in any order."""
_MOST = 2.0**16
"""One event counts at most this much: a broken value must not overflow a sum. Below 2⁻⁴⁰, after 40 half-lives, it
counts nothing."""
_PAIR_DDL = (
    "pair_block bigint, user_ids array<string>, pair_rows binary, pair_items array<string>, pair_weights binary, "
    "user_events binary, user_last binary"
)
_SUM_DDL = "user_id string, embedding array<double>, events bigint, last_timestamp timestamp"


@dataclass(frozen=True)
class EventWeights:
    """What an event counts: ``by_type`` × (value − rating_center, for ratings) × 2^(−age in days / half_life_days).

    Age is counted from the user's newest event: time alone changes no profile, to the last bit, and whoever was away
    for years is known as before. A ``half_life_days`` of 0 leaves age out.
    """

    by_type: Mapping[str, float]
    rating_center: float
    half_life_days: float
    rating_type: str = "rating"

    def column(self) -> Column:
        """The weight of an event times its ``decay``, in units of 2⁻⁴⁰ as a long: integers add up to the same sum in
        any order. With a half-life in days it wants ``newest``, the time of the user's newest event."""
        kinds = F.create_map(*(F.lit(x) for pair in sorted(self.by_type.items()) for x in pair))
        centred = F.when(
            F.col("event_type") == self.rating_type, F.coalesce(F.col("value") - self.rating_center, F.lit(1.0))
        )
        aged = F.lit(1.0)
        if self.half_life_days:
            seconds = F.col("newest").cast("double") - F.col("timestamp").cast("double")
            aged = F.pow(F.lit(2.0), -seconds / (86_400.0 * self.half_life_days))
        weight = F.try_element_at(kinds, F.col("event_type")) * F.coalesce(centred, F.lit(1.0)) * aged * F.col("decay")
        bounded = F.greatest(F.lit(-_MOST), F.least(F.lit(_MOST), F.coalesce(weight, F.lit(0.0))))
        return F.round(bounded * GRID).cast("bigint")


def before(events: DataFrame, run_date: date) -> DataFrame:
    """The events that a run for ``run_date`` may know: strictly before its midnight, UTC."""
    return events.where(F.col("timestamp") < F.lit(str(run_date)).cast("timestamp"))


def weigh_pairs(events: DataFrame, run_date: date, weights: EventWeights, history: History = _PLAIN) -> DataFrame:
    """``user_id, item_id, weight, events, last_timestamp``: what each item counts for a user, decayed to the user's
    newest event; ``events`` are those before ``run_date`` that ``history`` lets count."""
    known = counted_events(before(events, run_date), history)
    if weights.half_life_days:
        newest = known.groupBy("user_id").agg(F.max("timestamp").alias("newest"))
        known = known.join(newest, on="user_id", how="inner")
    known = known.withColumn("units", weights.column())
    pairs = known.groupBy("user_id", "item_id").agg(
        F.sum("units").alias("units"), F.count("*").alias("events"), F.max("timestamp").alias("last_timestamp")
    )
    weight = (F.col("units") / GRID).alias("weight")
    weighed = pairs.select("user_id", "item_id", weight, "events", "last_timestamp")
    return weighed if history.sif is None else damp_popular(weighed, history.sif)


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


def pool_items(pairs: DataFrame, item_vectors: DataFrame, *, tasks: int, pair_block_rows: int = 262_144) -> DataFrame:
    """``user_id, embedding (array<double>), events, last_timestamp``: Σ weight · v(item), summed in the order of
    item_id.

    Items without a vector add nothing; a user's ``events`` counts theirs too.
    """
    by_user = pairs.repartition(tasks, "user_id").sortWithinPartitions("user_id", "item_id")
    pair_blocks = by_user.mapInArrow(_pack_pairs(pair_block_rows), _PAIR_DDL)
    item_blocks = pack_items(item_vectors, block_rows=8192, partitions=tasks)
    return join_blocks(pair_blocks, item_blocks, _pool, _SUM_DDL)


def build_profiles(
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


def _plus(left: Column, right: Column) -> Column:
    """The sum of two vectors of which either may be null."""
    return F.coalesce(F.zip_with(left, right, lambda x, y: x + y), left, right)


def _pack_pairs(rows: int) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def pack(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held: list[pa.RecordBatch] = []
        count = blocks = 0
        for batch in batches:
            held.append(batch)
            count += batch.num_rows
            if count >= rows:  # close the block at the last border between two users
                table = pa.Table.from_batches(held)
                names = table["user_id"].to_numpy(zero_copy_only=False)
                border = int(np.flatnonzero(names == names[-1])[0])
                if border:
                    yield _pair_block(table.slice(0, border), blocks)
                    blocks += 1
                held, count = table.slice(border).to_batches(), table.num_rows - border
        if count:
            yield _pair_block(pa.Table.from_batches(held), blocks)

    return pack


def _pair_block(pairs: pa.Table, count: int) -> pa.RecordBatch:
    names = pairs["user_id"].to_numpy(zero_copy_only=False)
    starts = np.flatnonzero(np.r_[True, names[1:] != names[:-1]])
    owner = np.repeat(np.arange(len(starts), dtype=np.int64), np.diff(np.r_[starts, len(names)]))
    last = pairs["last_timestamp"].cast(pa.int64()).to_numpy()
    return block_row(
        _PAIR_DDL,
        next_block_number(count),
        names[starts].tolist(),
        owner.tobytes(),
        pairs["item_id"].to_pylist(),
        pairs["weight"].to_numpy().astype(np.float64).tobytes(),
        np.add.reduceat(pairs["events"].to_numpy(), starts).astype(np.int64).tobytes(),
        np.maximum.reduceat(last, starts).astype(np.int64).tobytes(),
    )


def _pool(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    state: _PairBlock | None = None
    for record in records(batches):
        number = record["pair_block"].as_py()
        if state is None or state.number != number:
            if state is not None:
                yield state.sums_of_users()
            state = _PairBlock(number, record)
        state.add(record)
    if state is not None:
        yield state.sums_of_users()


class _PairBlock:
    """The pairs of some users on their way past the item blocks."""

    def __init__(self, number: int, record: dict[str, Any]) -> None:
        self.number = number
        self._user_ids = record["user_ids"].values
        self._rows = np.frombuffer(record["pair_rows"].as_py(), np.int64)
        self._weights = np.frombuffer(record["pair_weights"].as_py(), np.float64)
        self._events = np.frombuffer(record["user_events"].as_py(), np.int64)
        self._last = np.frombuffer(record["user_last"].as_py(), np.int64)
        self._items = IdIndex(record["pair_items"].values)
        self._sums = np.zeros((len(self._user_ids), record["item_dimension"].as_py()))

    def add(self, record: dict[str, Any]) -> None:
        """Add what lies in the next item block."""
        _, block_ids, vectors = item_block(record)
        places, columns = self._items.matches(block_ids)
        for start in range(0, len(places), 16_384):  # bounds the copy of item vectors
            part = slice(start, start + 16_384)
            accumulate(self._sums, self._rows[places[part]], self._weights[places[part]], vectors[columns[part]])

    def sums_of_users(self) -> pa.RecordBatch:
        """One row per user."""
        columns = [
            self._user_ids,
            as_lists(self._sums),
            pa.array(self._events),
            pa.array(self._last, pa.timestamp("us", tz="UTC")),
        ]
        return pa.RecordBatch.from_arrays(columns, names=["user_id", "embedding", "events", "last_timestamp"])
