#!/usr/bin/env python3
"""The nightly refresh against making everything again. Prints one JSON line last.

    tests/benchmarks/bench_refresh.py [--users=100000] [--items=20000] [--changed=0.05] [--changed_items=0.01]
        [--scorer=cosine]

A generated shop: items with a text of about 12 words, a category, a brand and a price, users with about 8 events. The
first night starts from an empty lake (``full_s``: with the encoder). Then a share of the users has one more event, in a
file of the log of its own, and a share of the items changes, half of them with another text and price and half new
ones, in a new file of all products; and the next night runs (``incremental_s``). The same night is made in a second
lake that has nothing but what only grows, the embeddings and the price cuts (``rebuild_s``: without the encoder).
``identical`` tells whether the two hold the same lists, row for row and bit for bit, and the same profiles up to
``profiles_differ_by``, which must be 1e-5 at most. A third night has nothing new (``unchanged_s``). Times are those of
the whole command: start of Spark, raw files, audit and commits included.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if "RECSYS_BENCHMARK" not in os.environ:  # in the environment that `run` sets up
    os.execv(Path(__file__).with_name("run"), ["run", *sys.argv])

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

ROOT = Path(__file__).resolve().parents[2]
WORDS = [
    "red",
    "blue",
    "green",
    "garden",
    "kitchen",
    "steel",
    "glass",
    "wooden",
    "small",
    "large",
    "light",
    "heavy",
    "lamp",
    "table",
    "chair",
    "spade",
    "rake",
    "pot",
    "cup",
    "hat",
    "coat",
    "shoe",
    "wool",
    "cotton",
    "silk",
    "travel",
    "sport",
    "winter",
    "summer",
    "music",
    "guitar",
    "drum",
    "violin",
    "camera",
    "lens",
    "tripod",
    "bag",
    "leather",
    "paper",
    "ink",
    "brush",
    "paint",
    "canvas",
    "puzzle",
    "game",
    "board",
    "card",
    "chess",
    "robot",
    "train",
    "plane",
    "boat",
    "kite",
    "ball",
    "racket",
    "net",
    "tent",
    "rope",
    "torch",
]
DATASET = """
title = "Generated shop"
[sources.products]
path = "products.parquet"
format = "parquet"
[sources.log]
path = "log"
format = "parquet"
[items]
from = "products"
select = { item_id = "sku", title = "name", brand = "brand", category = "split(path, '/')", price = "price" }
text = ["{title}."]
[events]
from = "log"
select = { user_id = "user", item_id = "sku", event_type = "'purchase'", timestamp = "at" }
earliest = 2024-01-01
latest = 2024-12-31
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--changed", type=float, default=0.05)
    parser.add_argument("--changed_items", type=float, default=0.01)
    parser.add_argument("--events", type=int, default=8, help="of a user, on average")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--scorer", default="cosine")
    asked = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="bench-refresh-"))
    try:
        print(json.dumps(measured(asked, scratch)))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def measured(asked: argparse.Namespace, scratch: Path) -> dict:
    """The nights one after the other."""
    shop = Shop(scratch / "shop", asked)
    shop.write()
    full, first = night(shop, scratch / "lake", "2024-06-01", asked)
    shop.change(asked)
    shop.write()
    incremental, second = night(shop, scratch / "lake", "2024-06-02", asked)
    for table in ("embeddings", "price_cuts"):
        shutil.copytree(scratch / "lake" / table, scratch / "again" / table)
    rebuild, _ = night(shop, scratch / "again", "2024-06-02", asked)
    lists = [rows(scratch / lake, "recommendations", "user_id", "rank") for lake in ("lake", "again")]
    differ = profiles_differ_by(scratch)
    unchanged, third = night(shop, scratch / "lake", "2024-06-03", asked)
    return {
        "users": asked.users,
        "items": asked.items,
        "k": asked.k,
        "full_s": full,
        "rebuild_s": rebuild,
        "incremental_s": incremental,
        "ratio": round(incremental / full, 3),
        "ratio_to_rebuild": round(incremental / rebuild, 3),
        "unchanged_s": unchanged,
        "identical": lists[0].num_rows > 0 and lists[0].equals(lists[1]) and differ <= 1e-5,
        "rows_compared": lists[0].num_rows,
        "profiles_differ_by": differ,
        "texts_encoded": [report["texts_encoded"] for report in (first, second, third)],
        "profiles_made": [report.get("profiles_made") for report in (first, second, third)],
        "lists_made": [report.get("lists_made") for report in (first, second, third)],
    }


class Shop:
    """Products and a log, drawn once and changed once."""

    def __init__(self, folder: Path, asked: argparse.Namespace) -> None:
        folder.mkdir()
        (folder / "shop.toml").write_text(DATASET, encoding="utf-8")
        self.folder, self._random = folder, np.random.default_rng(7)
        self.names = [self._text() for _ in range(asked.items)]
        self.prices = self._random.lognormal(3, 1, asked.items).round(2).tolist()
        popular = self._random.zipf(1.3, asked.users * asked.events) % asked.items
        owners = self._random.integers(0, asked.users, len(popular))
        self.log = pa.table({"user": owners, "sku": popular, "day": self._random.integers(0, 150, len(popular))})

    def change(self, asked: argparse.Namespace) -> None:
        """One more event of some users; some items with another text, as many new ones."""
        users = self._random.choice(asked.users, int(asked.users * asked.changed), replace=False)
        items = self._random.integers(0, asked.items, len(users))
        more = pa.table({"user": users, "sku": items, "day": np.full(len(users), 152)})
        self.log = more
        half = int(asked.items * asked.changed_items / 2)
        for place in self._random.choice(asked.items, half, replace=False):
            self.names[place], self.prices[place] = self._text(), round(float(self._random.lognormal(3, 1)), 2)
        self.names += [self._text() for _ in range(half)]
        self.prices += self._random.lognormal(3, 1, half).round(2).tolist()

    def write(self) -> None:
        """The raw files of a night: all products, and what is new in the log."""
        numbers = [f"i{n:07}" for n in range(len(self.names))]
        brands = [f"brand {n % 97}" for n in range(len(self.names))]
        paths = [f"shelf {n % 7}/box {n % 91}" for n in range(len(self.names))]
        products = {"sku": numbers, "name": self.names, "brand": brands, "path": paths, "price": self.prices}
        products = pa.table(products)
        pq.write_table(products, self.folder / "products.parquet")
        start = np.datetime64("2024-01-01T10:00:00", "us")
        log = pa.table(
            {
                "user": [f"u{n:08}" for n in self.log["user"].to_pylist()],
                "sku": [f"i{n:07}" for n in self.log["sku"].to_pylist()],
                "at": pa.array(start + self.log["day"].to_numpy() * np.timedelta64(1, "D"), pa.timestamp("us", "UTC")),
            }
        )
        (self.folder / "log").mkdir(exist_ok=True)
        number = len(list((self.folder / "log").iterdir()))
        pq.write_table(log, self.folder / "log" / f"{number}.parquet", row_group_size=200_000)

    def _text(self) -> str:
        return " ".join(self._random.choice(WORDS, 12))


def night(shop: Shop, lake: Path, run_date: str, asked: argparse.Namespace) -> tuple[float, dict]:
    """Seconds of a refresh, and its report."""
    command = [ROOT / "spark-submit.sh", "refresh_lake", f"--dataset={shop.folder / 'shop.toml'}", f"--k={asked.k}"]
    command += [f"--data={shop.folder}", f"--lake={lake}", f"--run_date={run_date}", f"--scorer={asked.scorer}"]
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON")}
    started = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=clean, check=True)
    report = json.loads(done.stdout.splitlines()[-1])
    print(f"{run_date}: {report}", file=sys.stderr)
    return round(time.perf_counter() - started, 1), report


def rows(lake: Path, table: str, *order: str) -> pa.Table:
    """All rows in order."""
    return DeltaTable(str(lake / table)).to_pyarrow_table().sort_by([(name, "ascending") for name in order])


def profiles_differ_by(scratch: Path) -> float:
    """The largest difference of two numbers in a profile; infinity where the users, or what else is said of them, are
    not the same."""
    pair = [rows(scratch / lake, "user_profiles", "user_id") for lake in ("lake", "again")]
    if not pair[0].drop_columns("embedding").equals(pair[1].drop_columns("embedding")):
        return float("inf")
    numbers = [table["embedding"].combine_chunks().flatten().to_numpy() for table in pair]
    return float(np.abs(numbers[0] - numbers[1]).max()) if len(numbers[0]) == len(numbers[1]) else float("inf")


if __name__ == "__main__":
    main()
