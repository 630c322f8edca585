"""Lists as they are shown with exploration. Pure DataFrame functions."""

from collections.abc import Iterator
from datetime import date
from functools import partial

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.recommend.kernels.exploration import Exploration, explored

_SHOWN_DDL = "user_id string, item_id string, rank int, propensity double"


def shown_lists(lists: DataFrame, run_date: date, settings: Exploration) -> DataFrame:
    """``user_id, item_id, rank, propensity``: the first positions of every list after exploration.

    The draws of a user depend on the user's id, the run date and the seed only.

    Args:
        lists: ``user_id, item_id, rank``: the candidates of each user, ranks from 1 without gaps.
    """
    ranked = F.array_sort(F.collect_list(F.struct("rank", "item_id")))
    users = lists.groupBy("user_id").agg(F.transform(ranked, lambda row: row["item_id"]).alias("items"))
    seeded = F.xxhash64("user_id", F.lit(str(run_date))).alias("hash")
    return users.select("user_id", "items", seeded).mapInArrow(partial(_drawn, settings=settings), _SHOWN_DDL)


def _drawn(batches: Iterator[pa.RecordBatch], settings: Exploration) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        lists = batch["items"]
        sizes = lists.value_lengths().to_numpy().astype(np.int64)
        chosen, propensity = explored(sizes, batch["hash"].to_numpy(), settings)
        users, places = np.nonzero(chosen >= 0)
        first = np.cumsum(sizes) - sizes
        columns = [
            batch["user_id"].take(pa.array(users)),
            lists.flatten().take(pa.array(first[users] + chosen[users, places])),
            pa.array(places + 1, pa.int32()),
            pa.array(propensity[users, places]),
        ]
        yield pa.RecordBatch.from_arrays(columns, names=["user_id", "item_id", "rank", "propensity"])
