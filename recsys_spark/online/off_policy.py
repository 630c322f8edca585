"""Sums of a log of impressions, task by task. Pure DataFrame functions."""

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.arrays.arrow import slices
from recsys_spark.online.kernels.off_policy import Log, log_sums

RANKS = 1001
"""Ranks that predictions tell apart: 0, impressions without a rank, to 1000, all further ones."""

_ROWS_AT_ONCE = 4096
"""Impressions whose users have their draws in memory at once: 4096 users and 1000 replicates are 33 MB of float64."""

_SUMS_DDL = "sums array<double>"


def numbered_log(log: DataFrame, folds: int) -> DataFrame:
    """``user, fold, place, propensity, target_propensity, reward``: the hash of the user, the fold that it falls into,
    and the number of the rank."""
    user = F.xxhash64("user_id")
    return log.select(
        user.alias("user"),
        F.pmod(user, F.lit(folds)).cast("int").alias("fold"),
        F.least(F.coalesce("rank", F.lit(0)), F.lit(RANKS - 1)).alias("place"),
        "propensity",
        "target_propensity",
        "reward",
    )


def place_sums(log: DataFrame) -> DataFrame:
    """``fold, place, reward, rows``: the sum of rewards, and the number of impressions; ``log`` of ``numbered_log``."""
    return log.groupBy("fold", "place").agg(F.sum("reward").alias("reward"), F.count("*").alias("rows"))


def task_sums(
    log: DataFrame, predicted: NDArray[np.float64], max_weight: float | None, replicates: int, seed: int
) -> DataFrame:
    """``sums``: ``log_sums`` of each task, row by row; ``predicted``: (folds, RANKS)."""
    return log.mapInArrow(_summed(predicted, max_weight, replicates, seed), _SUMS_DDL)


def _summed(
    predicted: NDArray[np.float64], max_weight: float | None, replicates: int, seed: int
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def transform(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        total = None
        for part in slices(batches, _ROWS_AT_ONCE):
            columns = {name: part[name].to_numpy() for name in part.column_names}
            log = Log(
                columns["user"],
                columns["propensity"],
                columns["target_propensity"],
                columns["reward"],
                predicted[columns["fold"], columns["place"]],
            )
            sums = log_sums(log, max_weight, replicates, seed)
            total = sums if total is None else total + sums
        if total is not None:
            yield pa.RecordBatch.from_pydict({"sums": pa.array([total.ravel()], pa.list_(pa.float64()))})

    return transform
