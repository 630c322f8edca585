#!/usr/bin/env python3
"""Item weights of a generated catalogue: time of each stage and memory of a task. Prints one JSON line last.

    tests/benchmarks/bench_weights.py --items=1000000 --events=20000000 [--dim=64 --nprobe=32 --candidates=100]

Users have 20 events each, most with items of one of their groups; items of a group share words and a direction. Tables
are written by Spark from a hash of row numbers, so nothing of them passes through the driver.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

if "RECSYS_BENCHMARK" not in os.environ:  # in the environment that `run` sets up
    os.execv(Path(__file__).with_name("run"), ["run", *sys.argv])

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.arrays.arrow import as_lists
from recsys_spark.arrays.vectors import unit_rows
from recsys_spark.blocks.steps.block_files import write_item_blocks
from recsys_spark.blocks.steps.centroids import centroids, cluster_count
from recsys_spark.hybrid.item_features import FEATURE_COLUMNS, item_features
from recsys_spark.hybrid.item_weights import WeightFit, fit_bytes, weight_rows
from recsys_spark.hybrid.steps.fit_item_weights import parts_of
from recsys_spark.lake.lake import Lake
from recsys_spark.tables.schemas import ITEM_WEIGHTS
from recsys_spark.tables.task_stream import ArrowTransform, TaskStats

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
GROUP, EVENTS_OF_USER = 200, 20


def main() -> None:
    """Generate, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--nprobe", type=int, default=32)
    parser.add_argument("--candidates", type=int, default=100)
    asked = parser.parse_args()
    scratch = tempfile.mkdtemp(prefix="bench-weights-")
    try:
        print(json.dumps(vars(asked) | measure(asked, scratch)))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def measure(asked: argparse.Namespace, scratch: str) -> dict[str, object]:
    """Seconds of each stage, peak memory of the Python workers, and what was announced."""
    builder = SparkSession.builder.master(f"local[{CORES},4]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.driver.memory", "6g").config("spark.ui.showConsoleProgress", "false")
    builder = builder.config("spark.sql.shuffle.partitions", str(16 * CORES)).config("spark.local.dir", scratch)
    spark = builder.config("spark.sql.session.timeZone", "UTC").getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    seconds, lake = {}, Lake(f"{scratch}/lake")

    def timed(name: str, frame: DataFrame) -> DataFrame:
        started = time.perf_counter()
        frame.write.parquet(f"{scratch}/{name}")
        seconds[name] = round(time.perf_counter() - started, 1)
        print(name, seconds[name], file=sys.stderr, flush=True)
        return spark.read.parquet(f"{scratch}/{name}")

    items = timed("items", texts(spark, asked.items))
    vectors = timed("vectors", directions(spark, asked.items, asked.dim))
    pairs = timed("events", histories(spark, asked.items, asked.events // EVENTS_OF_USER))
    started = time.perf_counter()
    features = item_features(items, pairs, vectors, asked.dim)
    lists = cluster_count(None, asked.items) if asked.nprobe else 0
    groups = centroids(vectors, lists, asked.items, seed=0) if lists else None
    blocks = write_item_blocks(
        features,
        f"{scratch}/blocks",
        16_384,
        tasks=max(4 * CORES, asked.items // 16_384),
        centroids=groups,
        extra_columns=FEATURE_COLUMNS,
    )
    seconds["features and blocks"] = round(time.perf_counter() - started, 1)
    print(seconds, file=sys.stderr, flush=True)
    fit, started = WeightFit(candidates=asked.candidates, nprobe=asked.nprobe), time.perf_counter()
    staged = lake.stage(parts_of(spark, blocks), ITEM_WEIGHTS, with_peak(weight_rows(blocks, fit)))
    lake.commit(staged, "bench")
    seconds["fit"] = round(time.perf_counter() - started, 1)
    peak = max(note["peak"] for note in staged.stats)
    return {
        "seconds": seconds,
        "weights": staged.rows,
        "peak_rss_mb": round(peak / 1e6),
        "bound_mb": round(fit_bytes(blocks, fit) / 1e6),
    }


def with_peak(make: ArrowTransform) -> ArrowTransform:
    """Note the most memory of the process so far."""
    import resource

    def noting(batches: Iterator[pa.RecordBatch], notes: TaskStats) -> Iterator[pa.RecordBatch]:
        yield from make(batches, notes)
        notes["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    return noting


def name(number: Column) -> Column:
    """The id of an item."""
    return F.concat(F.lit("i"), F.lpad(number.cast("string"), 8, "0"))


def texts(spark: SparkSession, items: int) -> DataFrame:
    """Twelve words: four of the item's group, the rest of a common vocabulary."""
    n, group = F.col("id"), F.floor(F.col("id") / GROUP)
    own = [F.concat(F.lit("g"), F.pmod(F.xxhash64(group, F.lit(w)), F.lit(50_000)).cast("string")) for w in range(4)]
    rest = [F.concat(F.lit("w"), F.pmod(F.xxhash64(n, F.lit(w)), F.lit(20_000)).cast("string")) for w in range(8)]
    return spark.range(items).select(name(n).alias("item_id"), F.concat_ws(" ", *own, *rest).alias("text"))


def directions(spark: SparkSession, items: int, dim: int) -> DataFrame:
    """A direction of the group with noise."""

    def draw(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            numbers = batch["id"].to_numpy()
            groups, owner = np.unique(numbers // GROUP, return_inverse=True)
            means = np.stack([np.random.default_rng(g).standard_normal(dim) for g in groups])
            noise = np.random.default_rng(int(numbers[0])).standard_normal((len(numbers), dim))
            ids = pa.array([f"i{n:08}" for n in numbers])
            vectors = as_lists(unit_rows(means[owner] + noise))
            yield pa.RecordBatch.from_arrays([ids, vectors], names=["item_id", "embedding"])

    return spark.range(items).mapInArrow(draw, "item_id string, embedding array<float>")


def histories(spark: SparkSession, items: int, users: int) -> DataFrame:
    """Twenty events of each user: half within two groups, half by popularity (a power of a uniform number)."""
    uniform = F.pmod(F.xxhash64("id", "place"), F.lit(1 << 30)) / float(1 << 30)
    group = F.pmod(F.xxhash64("id", F.pmod("place", F.lit(2))), F.lit(max(items // GROUP, 1)))
    near = group * GROUP + F.floor(uniform * GROUP)
    popular = F.pmod(F.floor(F.pow(uniform, 3.0) * items) * 7919, F.lit(items))
    item = F.when(F.col("place") < EVENTS_OF_USER // 2, near).otherwise(popular).cast("bigint")
    places = F.explode(F.sequence(F.lit(0), F.lit(EVENTS_OF_USER - 1))).alias("place")
    rows = spark.range(users).select("id", places)
    return rows.select(F.concat(F.lit("u"), F.col("id").cast("string")).alias("user_id"), name(item).alias("item_id"))


if __name__ == "__main__":
    main()
