#!/usr/bin/env python3
"""Exports of generated lists to servers that this script starts: seconds, rows a second, and what is read back.

    tests/benchmarks/bench_export.py --users=100000 [--targets=redis,postgres,folder]

Of each target: a first export, one with nothing new, one of a version in which 1 % of the lists have changed; then all
that the target holds is read and compared with the lists. Prints one JSON line last.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

if "RECSYS_BENCHMARK" not in os.environ:  # in the environment that `run` sets up
    os.execv(Path(__file__).with_name("run"), ["run", *sys.argv])

import pyarrow as pa
from local_session import local_session
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.export.options import ExportOptions
from recsys_spark.export.steps.export_recommendations import export_recommendations
from recsys_spark.lake.lake import Lake
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.schemas import RECOMMENDATIONS
from tests.bench.servers import postgres_server, redis_server

DAY, K, ITEMS = date(2024, 11, 1), 10, 20_000


def main() -> None:
    """Generate, export, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--targets", default="redis,postgres,folder")
    arguments = parser.parse_args()
    spark = local_session()
    with tempfile.TemporaryDirectory(prefix="bench-export-") as folder:
        found = {
            name: measure(spark, arguments.users, f"{folder}/{name}", name) for name in arguments.targets.split(",")
        }
    print(json.dumps(vars(arguments) | {"load": round(os.getloadavg()[0], 1)} | found))


def measure(spark: SparkSession, users: int, folder: str, target: str) -> dict[str, Any]:
    """Seconds of three exports and whether the lists came back."""
    lake, seconds, written = Lake(f"{folder}/lake"), {}, {}
    options: dict[str, Any] = {"lake": lake.uri, "to": target}
    if target == "folder":
        options |= {"folder": f"{folder}/out", "folder_format": "arrow"}
    with ExitStack() as servers:
        if target == "redis":
            os.environ["RECSYS_REDIS_URL"] = servers.enter_context(redis_server())
        if target == "postgres":
            os.environ["RECSYS_POSTGRES_URL"] = servers.enter_context(postgres_server())
        for name, changed in (("warm_up", 0), ("first", 0), ("nothing_new", 0), ("one_percent", 1)):
            rows = 1000 if name == "warm_up" else users
            lake.commit(lake.stage(lists(spark, rows, changed), RECOMMENDATIONS), name)
            started = time.perf_counter()
            report = export_recommendations(Run("export", lake, Progress()), ExportOptions(**options))
            seconds[name] = round(time.perf_counter() - started, 1)
            written[name] = report["exported"]["recommendations"].get("written")
        wanted = {r["user_id"]: r["items"] for r in _wanted(lake.read(spark, RECOMMENDATIONS)).toLocalIterator()}
        equal = read_back(target, options) == wanted
    rate = round(users * K / seconds["first"])
    return {"seconds": seconds, "written": written, "rows_a_second": rate, "equal": equal}


def lists(spark: SparkSession, users: int, changed: int) -> DataFrame:
    """Ten items for each user; ``changed``: another first item for one user of a hundred."""
    user, rank = (F.col("id") / K).cast("bigint"), F.pmod("id", F.lit(K)) + 1
    other = F.when((user % 100 == 0) & (rank == 1), F.lit(changed)).otherwise(F.lit(0))
    item = F.concat(F.lit("i"), F.pmod(F.xxhash64("id", other), F.lit(ITEMS)))
    named = {"user_id": F.concat(F.lit("u"), user), "item_id": item, "score": 1 / rank, "rank": rank}
    named |= {"run_date": F.lit(DAY), "model": F.lit("generated")}
    rows = spark.range(0, users * K, numPartitions=8)
    return rows.select(
        *(named.get(name, F.lit(None)).cast(kind).alias(name) for name, kind in RECOMMENDATIONS.columns.items())
    )


def _wanted(rows: DataFrame) -> DataFrame:
    entries = F.array_sort(F.collect_list(F.struct("rank", "item_id", "score")))
    return rows.groupBy("user_id").agg(
        F.transform(entries, lambda e: F.concat_ws(" ", e["item_id"], e["score"].cast("string"))).alias("items")
    )


def read_back(target: str, options: dict[str, Any]) -> dict[str, list[str]]:
    """All lists of a target, as ``item score``."""
    if target == "redis":
        from redis import Redis

        client = Redis.from_url(os.environ["RECSYS_REDIS_URL"], decode_responses=True)
        keys = list(client.scan_iter("recs:*", count=5000))
        stored = zip(keys, client.mget(keys), strict=True)
        pairs = [(key.removeprefix("recs:"), json.loads(value)) for key, value in stored]
    elif target == "postgres":
        import psycopg

        with psycopg.connect(os.environ["RECSYS_POSTGRES_URL"]) as connection:
            pairs = connection.execute("SELECT user_id, items FROM recsys.recommendations").fetchall()
    else:
        folder = Path(options["folder"])
        files = json.loads((folder / "recommendations.json").read_text())["files"].values()
        tables = (pa.ipc.open_file(folder / "recommendations" / name).read_all() for name in files)
        pairs = [(row["id"].decode(), json.loads(row["value"])) for table in tables for row in table.to_pylist()]
    return {user: [f"{entry['item_id']} {entry['score']}" for entry in items] for user, items in pairs}


if __name__ == "__main__":
    main()
