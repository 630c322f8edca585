"""Rows of the live tables: the newest of each user, and the lists that count now. Pure DataFrame functions."""

from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.tables.schemas import LIVE_PROFILES, LIVE_RECOMMENDATIONS, RECOMMENDATIONS
from recsys_spark.tables.task_stream import ArrowTransform, TaskStats, with_constant_columns


def newest_rows(live: DataFrame, run_date: date | None = None) -> DataFrame:
    """The rows of each user's greatest ``sequence``, of ``run_date`` only if it is given."""
    rows = live if run_date is None else live.where(F.col("run_date") == F.lit(run_date))
    newest = rows.groupBy("user_id").agg(F.max("sequence").alias("sequence"))
    return rows.join(newest, on=["user_id", "sequence"], how="left_semi")


def current_lists(lists: DataFrame, live: DataFrame, run_date: date) -> DataFrame:
    """Rows of ``recommendations`` as they count now: a live list replaces that of the night.

    Args:
        lists: the table ``recommendations``.
        live: the table ``live_recommendations``.
        run_date: of ``lists``; live lists of another day are out of date.
    """
    newest = newest_rows(live, run_date)
    shown = newest.where("rank > 0").drop("sequence")
    absent = {
        name: F.lit(None).cast(kind) for name, kind in RECOMMENDATIONS.columns.items() if name not in live.columns
    }
    others = lists.join(newest.select("user_id"), on="user_id", how="left_anti")
    return others.select(*RECOMMENDATIONS.columns).unionByName(
        shown.withColumns(absent).select(*RECOMMENDATIONS.columns)
    )


def live_profile_rows(users: DataFrame, profiles: DataFrame, run_date: date, sequence: int) -> DataFrame:
    """Rows of ``live_profiles`` of all ``users``; the columns of a user without a profile are null."""
    rows = users.join(profiles, on="user_id", how="left")
    numbered = rows.withColumns({"run_date": F.lit(run_date), "sequence": F.lit(sequence).cast("bigint")})
    return numbered.select(*LIVE_PROFILES.columns)


def live_list_rows(lists: ArrowTransform, constant_columns: dict[str, Any]) -> ArrowTransform:
    """The transform of a join that also returns a row of rank 0 for each user without an item.

    ``constant_columns``: ``run_date``, ``model`` and ``sequence``.
    """

    def transform(batches: Iterator[pa.RecordBatch], stats: TaskStats) -> Iterator[pa.RecordBatch]:
        users: list[pa.Array] = []
        listed: list[pa.Array] = []
        for rows in lists(_noted(batches, users.append), stats):
            listed.append(rows["user_id"].unique())
            yield _live(rows, constant_columns)
        if users:
            ids = pa.concat_arrays(users)
            empty = ids.filter(pc.invert(pc.is_in(ids, value_set=pa.concat_arrays([ids.slice(0, 0), *listed]))))
            yield _live(_without_items(empty), constant_columns)

    return transform


def _noted(batches: Iterator[pa.RecordBatch], note: Callable[[pa.Array], None]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        note(batch["user_id"])
        yield batch


def _without_items(users: pa.Array) -> pa.RecordBatch:
    number = len(users)
    columns = [
        users,
        pa.nulls(number, pa.string()),
        pa.nulls(number, pa.float32()),
        pa.repeat(pa.scalar(0, pa.int32()), number),
    ]
    return pa.RecordBatch.from_arrays(columns, names=["user_id", "item_id", "score", "rank"])


def _live(rows: pa.RecordBatch, constant_columns: dict[str, Any]) -> pa.RecordBatch:
    return with_constant_columns(rows, constant_columns).select(list(LIVE_RECOMMENDATIONS.columns))
