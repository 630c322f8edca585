#!/usr/bin/env python3
"""Time and memory of score_risk on a generated lake. Prints one JSON line.

tests/benchmarks/bench_risk.py [--users=100000] [--items=20000] [--events=1000000]
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from datetime import date
from pathlib import Path

if "RECSYS_BENCHMARK" not in os.environ:  # in the environment that `run` sets up
    os.execv(Path(__file__).with_name("run"), ["run", *sys.argv])

from local_session import local_session
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from recsys_spark.lake.lake import Lake
from recsys_spark.risk.options import RiskOptions
from recsys_spark.risk.steps.score_risk import score_risk
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.schemas import EVENTS, ITEM_VECTORS, ITEMS

WORDS = ("red", "blue", "green", "garden", "kitchen", "steel", "glass", "wooden", "small", "large", "light", "lamp")
DIMENSION = 64


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--events", type=int, default=1_000_000)
    arguments = parser.parse_args()
    spark = local_session()
    with tempfile.TemporaryDirectory(prefix="bench-risk-") as folder:
        lake = Lake(folder)
        fill(spark, lake, arguments)
        memory, cpu, started = Memory(), cpu_seconds(), time.perf_counter()
        options = RiskOptions(lake=folder, run_date=date(2024, 4, 1))
        report = score_risk(Run("bench", lake, Progress()), options)
        seconds, spent = time.perf_counter() - started, cpu_seconds() - cpu
        sizes = {"users": arguments.users, "items": arguments.items, "events": lake.rows(EVENTS)}
        figures = {"seconds": round(seconds, 1), "cpu_s": round(spent, 1), "load": os.getloadavg()[1]}
        print(json.dumps(sizes | figures | memory.peaks() | {"segments": report["segments"]}))


def fill(spark: SparkSession, lake: Lake, arguments: argparse.Namespace) -> None:
    """Items with titles, categories and vectors; events of Zipf-like users and items over 90 days."""

    def draw(*parts: object) -> F.Column:
        return F.pmod(F.xxhash64(*(F.lit(p) if isinstance(p, str) else p for p in parts)), F.lit(1 << 40)) / 2.0**40

    number = F.col("id")
    item = F.concat(F.lit("i"), F.lpad(number.cast("string"), 7, "0")).alias("item_id")
    words = F.array(*(F.lit(word) for word in WORDS))
    title = F.concat_ws(" ", *(F.get(words, F.floor(draw(number, f"w{n}") * len(WORDS)).cast("int")) for n in range(6)))
    category = F.array(F.concat(F.lit("c"), (number % 40).cast("string")))
    columns = {
        "title": title,
        "text": title,
        "text_hash": F.sha2(title, 256),
        "category": category,
        "price": F.lit(5.0),
    }
    rows = spark.range(arguments.items).select(item, *(column.alias(name) for name, column in columns.items()))
    absent = {name: F.lit(None).cast(kind) for name, kind in ITEMS.columns.items() if name not in rows.columns}
    lake.commit(lake.stage(rows.withColumns(absent).select(*ITEMS.columns), ITEMS), "items")
    raw = F.array(*((draw(number % 40, f"c{n}") - 0.5 + 0.3 * (draw(number, f"v{n}") - 0.5)) for n in range(DIMENSION)))
    norm = F.sqrt(F.aggregate("raw", F.lit(0.0), lambda total, x: total + x * x))
    vectors = spark.range(arguments.items).withColumn("raw", raw).withColumn("norm", norm)
    unit = F.transform("raw", lambda x: (x / F.col("norm")).cast("float")).alias("embedding")
    lake.commit(lake.stage(vectors.select(item, F.lit("m-1").alias("model"), unit), ITEM_VECTORS), "vectors")
    user = F.floor(draw(number, "u") ** 1.5 * arguments.users).cast("string")
    which = F.floor(draw(number, "i") ** 3 * arguments.items).cast("string")
    second = (1_704_067_200 + F.floor(draw(number, "t") * 86_400 * 90)).cast("bigint")
    columns = {"user_id": F.concat(F.lit("u"), user), "item_id": F.concat(F.lit("i"), F.lpad(which, 7, "0"))}
    columns |= {"event_type": F.lit("rating"), "timestamp": F.timestamp_seconds(second)}
    columns |= {"value": F.floor(draw(number, "r") * 5 + 1).cast("double")}
    events = spark.range(arguments.events).select(*(column.alias(name) for name, column in columns.items()))
    lake.commit(lake.stage(events, EVENTS), "events")


def descendants() -> list[int]:
    """This process and those below it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = [os.getpid()]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def cpu_seconds() -> float:
    """CPU seconds of all processes of the run, those that have ended included."""
    total = 0.0
    for process in descendants():
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    return total


class Memory:
    """Greatest resident memory, sampled every second."""

    def __init__(self) -> None:
        self._most = {"java": 0, "python_worker": 0, "all": 0}
        threading.Thread(target=self._watch, daemon=True).start()

    def peaks(self) -> dict[str, int]:
        """In MB."""
        return {f"{name}_mb": most // 1024 for name, most in self._most.items()}

    def _watch(self) -> None:
        while True:
            sizes = {"java": 0, "python_worker": 0, "all": 0}
            for process in descendants():
                try:
                    status = Path(f"/proc/{process}/status").read_text()
                except OSError:
                    continue
                size = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")), 0)
                name = "java" if "\tjava" in status.split("\n", 1)[0] else "python_worker"
                sizes["all"] += size
                sizes[name] = max(sizes[name], size)
            self._most = {name: max(most, sizes[name]) for name, most in self._most.items()}
            time.sleep(1)


if __name__ == "__main__":
    main()
