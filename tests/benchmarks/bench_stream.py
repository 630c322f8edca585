#!/usr/bin/env python3
"""Events as they arrive against a whole run of the lists. Prints one JSON line last.

    tests/benchmarks/bench_stream.py [--users=100000] [--items=20000] [--rate=200] [--seconds=120] [--k=10]

A lake with random vectors (384 numbers) and 8 events a user, after its first night by cosine (``full_s``: profiles and
lists of everybody). Then a file of events arrives every second, ``rate`` a second about random users and items, and
``stream_profiles --trigger=1s`` runs beside it, in the same process. ``p50_s`` and ``p95_s``: from the arrival of an
event to the commit with the list of its user. ``events_per_s``: while files arrived. ``growth``: mean time of the last
third of the batches over that of the first third, where the batches are of about the same size.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

if "RECSYS_BENCHMARK" not in os.environ:  # in the environment that `run` sets up
    os.execv(Path(__file__).with_name("run"), ["run", *sys.argv])

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession

from recsys_spark.errors import Terminated
from recsys_spark.lake.lake import Lake
from recsys_spark.profiles.options import ProfileOptions
from recsys_spark.profiles.steps.build_profiles import build_profiles
from recsys_spark.recommend.options import TopKOptions
from recsys_spark.recommend.steps.recommend_items import recommend_items
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.stream.options import StreamOptions
from recsys_spark.stream.steps.batches import Batches
from recsys_spark.stream.steps.stream_profiles import stream_profiles
from recsys_spark.tables.schemas import (
    EMBEDDINGS,
    EVENTS,
    ITEM_VECTORS,
    ITEMS,
    LIVE_RECOMMENDATIONS,
    STREAMED_EVENTS,
    USERS,
)

DAY, SPACE, DIMENSION = date(2026, 11, 24), "enc-1#blocks", 384

DATASET = """
title = "Streamed"
[sources]
clicks = { path = "clicks", format = "json", schema = "user string, sku string, at string" }
things = { path = "things.csv" }
[stream]
path = "arriving"
schema = "user string, sku string, at string"
[items]
from = "things"
select = { item_id = "sku" }
[events]
from = "clicks"
select = { user_id = "user", item_id = "sku", event_type = "'view'", timestamp = "try_to_timestamp(at)" }
"""


class Options(ProfileOptions, TopKOptions):
    """Keys of the two steps of the night."""


def first_night(spark, lake, users, items, k):
    """Commit random sources and publish the profiles and lists; returns the seconds of the two steps."""
    random = np.random.default_rng(0)
    vectors = random.standard_normal((items, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [f"i{n}" for n in range(items)]
    lists = pa.ListArray.from_arrays(np.arange(items + 1, dtype=np.int32) * DIMENSION, pa.array(vectors.ravel()))
    number = users * 8
    start = datetime(2026, 11, 1, tzinfo=UTC)
    times = [start + timedelta(seconds=int(s)) for s in random.integers(0, 20 * 86_400, number)]
    tables = {
        ITEM_VECTORS: {"item_id": names, "model": [SPACE] * items, "embedding": lists},
        ITEMS: {"item_id": names},
        USERS: {"user_id": [f"u{n}" for n in range(users)]},
        EMBEDDINGS: {"text_hash": [], "model": [], "embedding": []},
        EVENTS: {
            "user_id": [f"u{n // 8}" for n in range(number)],
            "item_id": [f"i{n}" for n in random.integers(0, items, number)],
            "event_type": ["view"] * number,
            "timestamp": times,
        },
    }
    for table, columns in tables.items():
        size = len(next(iter(columns.values())))
        fields = table.arrow_schema
        rows = pa.table(
            [pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(size, f.type) for f in fields],
            schema=fields,
        )
        lake.commit(lake.stage(spark.createDataFrame(rows).repartition(4), table), "sources")
    run, options = Run("bench", lake, Progress()), Options(lake=lake.uri, run_date=DAY, scorer="cosine", k=k)
    started = time.monotonic()
    build_profiles(run, options)
    recommend_items(run, options)
    return time.monotonic() - started


def send(folder, users, items, rate, seconds, sent):
    """A file of events every second; ``sent`` gets (time, number of events so far)."""
    random, total, begin = np.random.default_rng(1), 0, time.monotonic()
    for second in range(seconds):
        rows = [
            {
                "user": f"u{u}",
                "sku": f"i{i}",
                "at": f"2026-11-24 {second // 3600 % 24:02}:{second // 60 % 60:02}:{second % 60:02}.{n:04}",
            }
            for n, (u, i) in enumerate(
                zip(random.integers(0, users, rate), random.integers(0, items, rate), strict=True)
            )
        ]
        hidden = folder / f".{second}.tmp"
        hidden.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        hidden.rename(folder / f"{second:06}.json")
        total += rate
        sent.append((time.monotonic(), total))
        time.sleep(max(0.0, begin + second + 1 - time.monotonic()))


def watch(lake, wanted, visible):
    """``visible`` gets (time, number of events whose lists are published); stops the stream after ``wanted`` events."""
    version, number = None, 0
    while number < wanted:
        time.sleep(0.05)
        now = lake.version(LIVE_RECOMMENDATIONS)
        if now != version:
            version, number = now, lake.rows(STREAMED_EVENTS)
            visible.append((time.monotonic(), number))
    os.kill(os.getpid(), signal.SIGTERM)


def stop(number, frame):
    raise Terminated


def stream(lake, folder, a):
    """Send and process events; returns (sent, visible, seconds of each batch)."""
    took, sent, visible = [], [], []
    process, open_night = Batches.process, Batches.open_night
    threads = [
        threading.Thread(target=send, args=(folder / "arriving", a.users, a.items, a.rate, a.seconds, sent)),
        threading.Thread(target=watch, args=(lake, a.rate * a.seconds, visible)),
    ]

    def timed(self, raw, number):
        started = time.monotonic()
        process(self, raw, number)
        took.append(time.monotonic() - started)

    def opened(self):
        open_night(self)
        for thread in threads:
            thread.start()

    Batches.process, Batches.open_night = timed, opened
    options = StreamOptions(
        lake=lake.uri, dataset=str(folder / "streamed.toml"), data=str(folder), trigger="1s", max_files=1000
    )
    signal.signal(signal.SIGTERM, stop)
    with suppress(Terminated):
        stream_profiles(Run("bench", lake, Progress()), options)
    return sent, visible, took


def main():
    parser = argparse.ArgumentParser()
    for name, value in (("users", 100_000), ("items", 20_000), ("rate", 200), ("seconds", 120), ("k", 10)):
        parser.add_argument(f"--{name}", type=int, default=value)
    a = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-stream-"))
    (folder / "arriving").mkdir()
    (folder / "streamed.toml").write_text(DATASET)
    settings = {"spark.ui.enabled": "false", "spark.sql.session.timeZone": "UTC", "spark.driver.memory": "4g"}
    settings |= {"spark.sql.shuffle.partitions": "4", "spark.ui.showConsoleProgress": "false"}
    spark = SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    lake = Lake(str(folder / "lake"))
    full = first_night(spark, lake, a.users, a.items, a.k)
    sent, visible, took = stream(lake, folder, a)
    # An event of the file that ends at `total` is visible with the first commit that has all of them.
    waits = [next(at for at, number in visible if number >= total) - when for when, total in sent]
    third = max(1, len(took) // 3)
    report = {
        "users": a.users,
        "items": a.items,
        "rate": a.rate,
        "full_s": round(full, 1),
        "batches": len(took),
        "events_per_s": round(a.rate * a.seconds / (visible[-1][0] - sent[0][0] + 1), 1),
        "p50_s": round(float(np.median(waits)), 2),
        "p95_s": round(float(np.quantile(waits, 0.95)), 2),
        "batch_s": round(float(np.mean(took)), 2),
        "growth": round(float(np.mean(took[-third:]) / np.mean(took[1 : third + 1] or took)), 2),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
