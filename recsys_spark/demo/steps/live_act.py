"""The demo's second act: a user rates three films, and the stream changes the list within seconds."""

import json
import time
from datetime import UTC, date, datetime
from itertools import zip_longest
from typing import Any

from pyarrow.fs import FileSystem, FileType, copy_files
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table as View

from recsys_spark.events.weights import weigh_pairs
from recsys_spark.lake.lake import Lake
from recsys_spark.lake.whole_files import write_whole
from recsys_spark.publish.steps.publishing import pin_inputs
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.stream.options import StreamOptions
from recsys_spark.stream.steps.night import Night
from recsys_spark.stream.steps.stream_profiles import stream_profiles
from recsys_spark.tables.run_date import events_before
from recsys_spark.tables.schemas import EVENTS, ITEM_WEIGHTS, ITEMS, LIVE_RECOMMENDATIONS, TABLES

_RATED = 3


def live_act(run: Run, console: Console, dataset: str, user: str, run_date: date) -> dict[str, Any]:
    """Send the newest event of ``user`` again, which changes nothing, then ratings of 5 for a popular film and the two
    that are recommended most for it; print the live lists before and after. Returns figures for the report.

    It happens in a copy of the lake: invented ratings must not count as events in the demo's metrics.
    """
    run = Run(run.job, _copy_of(run.lake), run.progress)
    inputs = pin_inputs(run, EVENTS, ITEM_WEIGHTS, ITEMS)
    events, weights = inputs.frame(run, EVENTS), inputs.frame(run, ITEM_WEIGHTS)
    past = events_before(events, run_date)
    rated = _films_to_rate(past, weights, user)
    last = past.where(F.col("user_id") == user).orderBy(F.desc("timestamp"), "item_id").first()
    data = f"{run.lake.uri}/source"
    noon = int(datetime(run_date.year, run_date.month, run_date.day, 12, tzinfo=UTC).timestamp())
    if last is not None:
        _send(data, "1.json", [(user, last["item_id"], last["value"], int(last["timestamp"].timestamp()))])
    _send(data, "2.json", [(user, item, 5.0, noon + number) for number, item in enumerate(rated)])
    started = time.monotonic()
    settings: dict[str, Any] = {"lake": run.lake.uri, "dataset": dataset, "data": data, "max_files": 1}
    stream_profiles(run, StreamOptions(**settings))
    took = time.monotonic() - started
    titles = {row["item_id"]: row["title"] for row in _titles(inputs.frame(run, ITEMS), rated, run, user).collect()}
    lists = _lists(run, user)
    because = _because(run, events, weights, user, rated, lists[-1])
    _print(console, user, [titles[item] for item in rated], lists, titles, because)
    return {"live_seconds": round(took, 1), "live_changed": len(set(lists[-1]) - set(lists[0]))}


def _copy_of(lake: Lake) -> Lake:
    """A copy of the tables in a folder of temporary files, which replaces that of an earlier run."""
    copy = Lake(f"{lake.uri}/_blocks/live")
    filesystem, folder = FileSystem.from_uri(copy.uri)
    if filesystem.get_file_info(folder).type == FileType.Directory:
        filesystem.delete_dir(folder)
    for table in TABLES.values():
        if lake.version(table) is not None:
            filesystem.create_dir(f"{folder}/{table.name}", recursive=True)
            copy_files(lake.table_uri(table), copy.table_uri(table))
    return copy


def _films_to_rate(past: DataFrame, weights: DataFrame, user: str) -> list[str]:
    """The item with most events that the user has none of, and the two that it speaks for most."""
    own = past.where(F.col("user_id") == user).select("item_id").distinct()
    counts = past.groupBy("item_id").count().join(own, on="item_id", how="left_anti")
    first = counts.orderBy(F.desc("count"), "item_id").first()
    assert first is not None, "the demo has items that nobody has seen all of"
    near = weights.where(F.col("neighbor_id") == first["item_id"]).join(own, on="item_id", how="left_anti")
    rows = near.orderBy(F.desc("weight"), "item_id").limit(_RATED - 1).collect()
    return [first["item_id"], *(row["item_id"] for row in rows)]


def _send(data: str, name: str, ratings: list[tuple[str, str, float, int]]) -> None:
    """A file of events as the source of the data set has them."""
    filesystem, folder = FileSystem.from_uri(f"{data}/arriving")
    filesystem.create_dir(folder, recursive=True)
    names = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
    lines = (json.dumps(dict(zip(names, map(str, rating), strict=True))) for rating in ratings)
    write_whole(filesystem, f"{folder}/{name}", "".join(f"{line}\n" for line in lines).encode())


def _lists(run: Run, user: str) -> list[list[str]]:
    """The items of the user's live lists, the oldest list first."""
    rows = run.lake.read(run.spark, LIVE_RECOMMENDATIONS).where((F.col("user_id") == user) & (F.col("rank") > 0))
    by_list = rows.groupBy("sequence").agg(F.sort_array(F.collect_list(F.struct("rank", "item_id"))).alias("items"))
    return [[item["item_id"] for item in row["items"]] for row in by_list.orderBy("sequence").collect()]


def _titles(items: DataFrame, rated: list[str], run: Run, user: str) -> DataFrame:
    listed = run.lake.read(run.spark, LIVE_RECOMMENDATIONS).where(F.col("user_id") == user).select("item_id")
    return items.where(F.col("item_id").isin(rated)).unionByName(items.join(listed, on="item_id", how="left_semi"))


def _because(
    run: Run, events: DataFrame, weights: DataFrame, user: str, rated: list[str], listed: list[str]
) -> dict[str, str]:
    """For each listed item the rated one that speaks for it most, if that is more than all others of the history."""
    night = Night.open(run)
    weighting, history = night.list_settings
    mine = events.where(F.col("user_id") == user)
    new = mine.sparkSession.createDataFrame([(item,) for item in rated], "item_id string").select(
        F.lit(user).alias("user_id"), "item_id", F.lit("rating").alias("event_type"),
        F.lit(str(night.run_date)).cast("timestamp").alias("timestamp"), F.lit(5.0).alias("value"),
    )  # fmt: skip
    pairs = weigh_pairs(mine.unionByName(new), night.until, weighting, history)
    pairs = pairs.select(F.col("item_id").alias("neighbor_id"), F.col("weight").alias("event_weight"))
    parts = weights.where(F.col("item_id").isin(listed)).join(pairs, on="neighbor_id", how="inner")
    best = parts.groupBy("item_id").agg(F.max_by("neighbor_id", F.col("weight") * F.col("event_weight")).alias("best"))
    return {row["item_id"]: row["best"] for row in best.collect() if row["best"] in rated}


def _print(
    console: Console,
    user: str,
    rated: list[str],
    lists: list[list[str]],
    titles: dict[str, str],
    because: dict[str, str],
) -> None:
    view = View(title=f"User {user} rates 5: {', '.join(rated)}", title_justify="left", title_style="bold")
    view.add_column("live list before", ratio=4)
    view.add_column("seconds later", ratio=4)
    view.add_column("new, because of", ratio=3)
    before, after = lists[0], lists[-1]
    for old, new in zip_longest(before, after):
        reason = titles.get(because.get(new, ""), "yes") if new is not None and new not in before else ""
        view.add_row(titles.get(old, ""), titles.get(new, ""), reason)
    console.print(view)
