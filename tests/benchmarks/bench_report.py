#!/usr/bin/env python3
"""The report of a generated lake: seconds of each section and of the whole page. Prints one JSON line last.

    tests/benchmarks/bench_report.py --users=100000 --items=20000 [--lake=FOLDER]

Users have 20 events each, popular items more often; lists of ten, and an earlier version of them. Tables are written
by Spark from a hash of row numbers. With ``--lake`` the lake is made where it is missing, and kept.
"""

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

if "RECSYS_BENCHMARK" not in os.environ:  # in the environment that `run` sets up
    os.execv(Path(__file__).with_name("run"), ["run", *sys.argv])

import numpy as np
import pyarrow as pa
from local_session import local_session
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.arrays.arrow import as_lists
from recsys_spark.lake.lake import Lake
from recsys_spark.report.steps import render_report as steps
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.schemas import EMBEDDINGS, EVENTS, ITEMS, QUARANTINE, RECOMMENDATIONS, USERS, Table

DAY = date(2024, 11, 1)
EVENTS_OF_USER, K, DIM = 20, 10, 384
SECTIONS = ("data_health", "embedding_space", "list_metrics", "quality", "fairness", "drift", "gallery", "job_runs")


def main() -> None:
    """Generate, render, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--lake")
    asked = parser.parse_args()
    folder = asked.lake or tempfile.mkdtemp(prefix="bench-report-")
    try:
        print(json.dumps(vars(asked) | measure(asked, folder)))
    finally:
        if not asked.lake:
            shutil.rmtree(folder, ignore_errors=True)


def measure(asked: argparse.Namespace, folder: str) -> dict[str, object]:
    """Seconds of the start, of each section and of the page; its size."""
    started = time.perf_counter()
    spark = local_session()
    session = time.perf_counter() - started
    lake = Lake(folder)
    if lake.version(RECOMMENDATIONS) is None:
        earlier = tables(spark, asked.users, asked.items, lists_seed=4)[RECOMMENDATIONS]
        lake.commit(lake.stage(earlier, RECOMMENDATIONS), "earlier")
        for table, frame in tables(spark, asked.users, asked.items).items():
            lake.commit(lake.stage(frame, table), "generated")
    seconds: dict[str, float] = {}
    for name in SECTIONS:
        setattr(steps, name, partial(_timed, name, getattr(steps, name), seconds))
    cpu, started = _cpu_seconds(spark), time.perf_counter()
    options = steps.ReportOptions(lake=folder, run_date=DAY)
    found = steps.render_report(Run("render_report", lake, Progress()), options)
    whole = time.perf_counter() - started
    return {
        "start_seconds": round(session, 1),
        "render_seconds": round(whole, 1),
        "cpu_seconds": round(_cpu_seconds(spark) - cpu, 1),
        "driver_python_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "page_kb": Path(found["report"]).stat().st_size // 1024,
        "sections": {name: round(value, 1) for name, value in seconds.items()},
        "load": os.getloadavg()[0],
    }


def _cpu_seconds(spark: SparkSession) -> float:
    """Of the driver's Python and, where /proc tells, its JVM: says more than the clock on a machine that is shared."""
    stat = Path(f"/proc/{spark.sparkContext._gateway.proc.pid}/stat")
    ticks = sum(map(int, stat.read_text().rpartition(")")[2].split()[11:13])) if stat.exists() else 0
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def _timed(name: str, section: Callable[..., Any], seconds: dict[str, float], *given: Any, **named: Any) -> Any:
    started = time.perf_counter()
    found = section(*given, **named)
    seconds[name] = time.perf_counter() - started
    return found


def tables(spark: SparkSession, users: int, items: int, lists_seed: int = 3) -> dict[Table, DataFrame]:
    """The tables that a report reads."""
    numbers = partial(spark.range, numPartitions=8)
    item, user = F.concat(F.lit("i"), "id"), F.concat(F.lit("u"), "id")
    group = F.concat(F.lit("group "), F.pmod(F.xxhash64("id"), F.lit(40)))
    frames = {
        ITEMS: numbers(0, items).select(
            item.alias("item_id"), F.concat(F.lit("Item "), "id").alias("title"),
            F.concat(F.lit("about item "), "id", F.lit(" of "), group).alias("text"), item.alias("text_hash"),
            F.array(group).alias("category"), F.lit("brand").alias("brand"), F.rand(1).alias("price"),
        ),
        USERS: numbers(0, users).select(
            user.alias("user_id"), F.array(F.concat(F.lit("age: "), F.pmod("id", F.lit(5)))).alias("groups")
        ),
        EVENTS: numbers(0, users * EVENTS_OF_USER).select(
            F.concat(F.lit("u"), (F.col("id") / EVENTS_OF_USER).cast("bigint")).alias("user_id"),
            _skewed(items, 2).alias("item_id"), F.lit("view").alias("event_type"),
            F.timestamp_seconds(1704067200 + F.pmod(F.xxhash64("id", F.lit(5)), F.lit(366 * 86400))).alias("timestamp"),
        ),
        RECOMMENDATIONS: numbers(0, users * K).select(
            F.concat(F.lit("u"), (F.col("id") / K).cast("bigint")).alias("user_id"),
            _skewed(items, lists_seed).alias("item_id"),
            F.lit(0.5).alias("score"), (1 + F.pmod("id", F.lit(K))).alias("rank"), F.lit(DAY).alias("run_date"),
            F.lit("generated").alias("model"),
        ),
        EMBEDDINGS: numbers(0, items).mapInArrow(_embeddings, EMBEDDINGS.ddl),
        QUARANTINE: numbers(0, 1000).select(F.lit("events").alias("table"), F.lit("no item_id").alias("reason")),
    }  # fmt: skip
    return {table: frame.select(*_columns(frame, table)) for table, frame in frames.items()}


def _skewed(items: int, seed: int) -> Column:
    return F.concat(F.lit("i"), (F.pow(F.rand(seed), 3) * items).cast("bigint"))


def _columns(frame: DataFrame, table: Table) -> list[Column]:
    there = {name: F.col(name) if name in frame.columns else F.lit(None) for name in table.columns}
    return [there[name].cast(kind).alias(name) for name, kind in table.columns.items()]


def _embeddings(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        numbers = batch["id"].to_numpy()
        random = np.random.default_rng(int(numbers[0])).normal(size=(len(numbers), DIM)).astype(np.float32)
        columns = [pa.array([f"i{n}" for n in numbers]), pa.array(["generated"] * len(numbers)), as_lists(random)]
        yield pa.RecordBatch.from_arrays(columns, names=list(EMBEDDINGS.columns))


if __name__ == "__main__":
    main()
