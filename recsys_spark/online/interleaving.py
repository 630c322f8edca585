"""Lists of two lakes as one list for each user. Pure DataFrame functions."""

from collections.abc import Iterator
from datetime import date
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.online.kernels.interleaving import team_draft
from recsys_spark.online.validation import TEAMS

_MIXED_DDL = "user_id string, item_id string, rank int, team string"


def mixed_lists(first: DataFrame, second: DataFrame, slots: int, salt: str, run_date: date) -> DataFrame:
    """``user_id, item_id, rank, team``: a team draft of each user who has a list in both frames.

    The coins of a user depend on salt, id and run date only.

    Args:
        first, second: ``user_id, item_id, rank`` of the teams a and b.
    """
    hashed = F.xxhash64(F.lit(salt), F.col("user_id"), F.lit(str(run_date))).alias("hash")
    both = _ranked(first, slots, "first").join(_ranked(second, slots, "second"), on="user_id", how="inner")
    return both.select("user_id", "first", "second", hashed).mapInArrow(partial(_mixed, slots=slots), _MIXED_DDL)


def _ranked(lists: DataFrame, slots: int, name: str) -> DataFrame:
    ranked = F.array_sort(F.collect_list(F.struct("rank", "item_id")))
    items = F.transform(ranked, lambda row: row["item_id"]).alias(name)
    return lists.where(F.col("rank") <= slots).groupBy("user_id").agg(items)


def _mixed(batches: Iterator[pa.RecordBatch], slots: int) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        sides = batch["first"], batch["second"]
        ids = pa.concat_arrays([side.flatten() for side in sides]).dictionary_encode()
        codes = ids.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        cut = len(sides[0].flatten())
        lists = [_padded(*pair) for pair in zip(sides, (codes[:cut], codes[cut:]), strict=True)]
        items, teams = team_draft(lists[0], lists[1], slots, batch["hash"].to_numpy())
        users, places = np.nonzero(items >= 0)
        columns = [
            batch["user_id"].take(pa.array(users)),
            ids.dictionary.take(pa.array(items[users, places])),
            pa.array(places + 1, pa.int32()),
            pa.array(TEAMS).take(pa.array(teams[users, places])),
        ]
        yield pa.RecordBatch.from_arrays(columns, names=["user_id", "item_id", "rank", "team"])


def _padded(lists: pa.ListArray, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(U, longest list) codes of the items, −1 after the end of a list."""
    sizes = lists.value_lengths().to_numpy()
    padded = np.full((len(sizes), max(sizes.max(initial=0), 1)), -1)
    padded[np.arange(padded.shape[1]) < sizes[:, None]] = codes
    return padded
