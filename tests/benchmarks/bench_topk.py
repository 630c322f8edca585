#!/usr/bin/env python3
"""The Top-K join in Spark against what people would otherwise use. Prints one JSON line last.

    tests/benchmarks/bench_topk.py --users=20000 --items=100000 --dim=384 --k=100 [--pairs=5] [--vectors=FOLDER]
    tests/benchmarks/bench_topk.py --grow [--users=5000 --items=25000]
    tests/benchmarks/bench_topk.py --only=faiss --isa=avx2

Random unit vectors; or, with a FOLDER that has embeddings.npy, items that are noisy copies of its rows and profiles
that pool a few of them, for which the approximate join is measured too. Ours reads profiles and item blocks from a
lake, joins, writes Parquet and commits; packing the blocks happens once for each version of the item vectors
(``pack_s``). faiss.knn has all cores and both matrices in memory. Each is warm before it is timed, both take turns, and
a ratio is the median over these pairs. ``numpy`` is ours with the selection in NumPy, with the CPU seconds of both.
``--isa`` holds the libraries of ours and of the peers to older instructions, by their own switches. The slow ones run
on a slice of users (ALS: a fifth; crossJoin and nearestByJoin: 200 users and 5,000 items) and their time is scaled by
the pairs of a user and an item. ``--grow`` doubles users and items in turn and prints how time and memory of ours grow.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

if "RECSYS_BENCHMARK" not in os.environ:  # in the environment that `run` sets up
    OLDER = {
        "avx512": {  # without BF16 and AMX
            "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI",
            "MKL_ENABLE_INSTRUCTIONS": "AVX512",
            "OPENBLAS_CORETYPE": "SkylakeX",
            "NUMBA_CPU_NAME": "skylake-avx512",
            "NUMBA_CPU_FEATURES": "-avx512bf16",
        },
        "avx2": {
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "MKL_ENABLE_INSTRUCTIONS": "AVX2",
            "ATEN_CPU_CAPABILITY": "avx2",
            "OPENBLAS_CORETYPE": "Haswell",
            "NUMBA_CPU_NAME": "haswell",
            "NUMBA_CPU_FEATURES": "-avx512f",
            "FAISS_OPT_LEVEL": "avx2",
        },
    }
    ISA = next((word.partition("=")[2] for word in sys.argv if word.startswith("--isa=")), "")
    os.environ.update(OLDER.get(ISA, {}), RECSYS_ISA=ISA)
    os.execv(Path(__file__).with_name("run"), ["run", *sys.argv])

import numpy as np
import pyarrow as pa
from pairs import paired, timed
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from recsys_spark.arrays.arrow import as_lists
from recsys_spark.arrays.vectors import unit_rows
from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.blocks.steps.block_files import write_item_blocks
from recsys_spark.blocks.steps.centroids import centroids, cluster_count
from recsys_spark.lake.lake import Lake, Staged
from recsys_spark.recommend.options import TopKOptions
from recsys_spark.recommend.steps.approximate import stage_with_recall
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.schemas import ITEM_VECTORS, RECOMMENDATIONS, USER_PROFILES, Table
from recsys_spark.tables.task_stream import TaskStats
from recsys_spark.topk.join import list_rows, task_bytes, users_with_rules
from recsys_spark.topk.kernels import cpu_product as cpu_product_module
from recsys_spark.topk.kernels.compilation import loops_for
from recsys_spark.topk.kernels.cpu_product import cpu_product
from recsys_spark.topk.kernels.shortlist import NUMPY
from recsys_spark.topk.lists import ListRules

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
SLICE = (200, 5000)
USER_BLOCK_ROWS, ITEM_BLOCK_ROWS = 16_384, 65_536


def main() -> None:
    """Measure and print."""
    asked = arguments()
    scratch = tempfile.mkdtemp(prefix="bench-topk-")
    try:
        print(json.dumps(grow(asked, scratch) if asked.grow else compare(asked, scratch)))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--vectors", type=Path, help="folder with embeddings.npy")
    parser.add_argument("--only", default="faiss,als,slow,approx", help="which comparisons, by comma; also: numpy")
    parser.add_argument(
        "--isa", choices=["native", "avx512", "avx2"], default="native", help="instructions that libraries may use"
    )
    parser.add_argument("--grow", action="store_true")
    return parser.parse_args()


def compare(asked: argparse.Namespace, scratch: str) -> dict[str, object]:
    """Ours against each peer."""
    queries, items = vectors(asked)
    bench = Bench(scratch, queries, items, asked.k)
    ours, flops = bench.exact, 2.0 * queries.shape[0] * items.shape[0] * items.shape[1]
    bench.exact()
    rows: dict[str, object] = {"users": len(queries), "items": len(items), "dim": items.shape[1], "k": asked.k}
    rows |= {"isa": asked.isa, "product": product_name(flops / CORES)}
    if "numpy" in asked.only:
        _, rows["vs_numpy"] = paired("NumPy selects", lambda: bench.exact(False), "ours", ours, asked.pairs)
        rows["cpu_s"] = {name: round(median(bench.cpu_seconds[name]), 2) for name in ("numpy", "compiled")}
    if "faiss" in asked.only:
        seconds, rows["vs_faiss_knn"] = paired("faiss.knn", bench.faiss, "ours", ours, asked.pairs)
        rows |= {"gflops": round(flops / seconds / 1e9, 1), "seconds": round(seconds, 2)}
        rows |= {"pack_s": round(bench.pack_seconds, 2)}
    if "als" in asked.only:
        _, rows["vs_als"] = paired("ALS (a fifth)", bench.als(scratch, 5), "ours", ours, min(asked.pairs, 3), 5)
    if "slow" in asked.only:
        share = len(queries) * len(items) / (SLICE[0] * SLICE[1])
        _, rows["vs_cross_join"] = paired("crossJoin (slice)", bench.cross_join, "ours", ours, 1, share)
        _, rows["vs_nearest_by_join"] = paired("nearestByJoin (slice)", bench.nearest_by, "ours", ours, 1, share)
    rows |= {"peak_rss_mb": round(bench.peak_bytes / 1e6), "bound_mb": round(bench.bound() / 1e6)}
    if "approx" in asked.only and asked.vectors:
        rows["approx"] = bench.approximate(asked.pairs)
    return rows


def grow(asked: argparse.Namespace, scratch: str) -> dict[str, object]:
    """Ours alone, with twice the users, then twice the items, and again."""
    users, items, steps = asked.users, asked.items, []
    for step in range(5):
        asked.users, asked.items = users << ((step + 1) // 2), items << (step // 2)
        bench = Bench(f"{scratch}/{step}", *vectors(asked), asked.k)
        bench.exact()
        seconds = timed(bench.exact)
        pairs = asked.users * asked.items
        steps.append({"users": asked.users, "items": asked.items, "seconds": round(seconds, 2)})
        steps[-1] |= {"ns_per_pair": round(seconds / pairs * 1e9, 3), "peak_rss_mb": round(bench.peak_bytes / 1e6)}
        print(steps[-1], file=sys.stderr)
        bench.spark.stop()
    return {"dim": asked.dim, "k": asked.k, "steps": steps, "bound_mb": round(bench.bound() / 1e6)}


def product_name(flops: float) -> str:
    """How a task multiplies and selects on this processor."""
    product = cpu_product(flops, 1)
    return f"{'float32' if product.raw is NUMPY.raw else 'bfloat16'}, {'compiled' if product.loops else 'NumPy'}"


def numpy_selects(flops: float) -> None:
    """In place of ``loops_for``."""


def vectors(asked: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """(users, d), (items, d) unit vectors."""
    rng = np.random.default_rng(0)
    if asked.vectors is None:
        draw = [rng.standard_normal((n, asked.dim), dtype=np.float32) for n in (asked.users, asked.items)]
        return unit(draw[0]), unit(draw[1])
    base = unit(np.load(asked.vectors / "embeddings.npy").astype(np.float32))
    width = base.shape[1]
    noise = rng.standard_normal((asked.items, width), dtype=np.float32) * np.float32(0.1 / np.sqrt(width))
    items = unit(base[np.arange(asked.items) % len(base)] + noise)
    pooled = sum(base[rng.integers(0, len(base), asked.users)] * np.float32(0.7**age) for age in range(6))
    return unit(pooled), items


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows at unit length, a slice at a time."""
    return np.concatenate([unit_rows(part) for part in np.array_split(rows, max(len(rows) // 65_536, 1))])


class Bench:
    """A session, a lake with both tables, and one method per way."""

    def __init__(self, scratch: str, queries: np.ndarray, items: np.ndarray, k: int) -> None:
        """Settings of conf/spark-local.conf that matter here."""
        Path(scratch).mkdir(parents=True, exist_ok=True)
        builder = SparkSession.builder.master(f"local[{CORES},4]").config("spark.ui.enabled", "false")
        builder = builder.config("spark.driver.memory", "4g").config("spark.ui.showConsoleProgress", "false")
        builder = builder.config("spark.sql.shuffle.partitions", str(2 * CORES))
        self.spark = builder.config("spark.sql.execution.arrow.pyspark.enabled", "true").getOrCreate()
        self.spark.sparkContext.setLogLevel("ERROR")
        self.queries, self.items, self.k = queries, items, k
        self.lake, self._runs, self.peak_bytes = Lake(f"{scratch}/lake"), 0, 0
        self.cpu_seconds: dict[str, list[float]] = {"numpy": [], "compiled": []}
        self._publish(ITEM_VECTORS, items, "item_id", f"{scratch}/items.npy")
        self._publish(USER_PROFILES, queries, "user_id", f"{scratch}/users.npy")
        self.packed()  # warm
        self.blocks, self.pack_seconds = self.packed()

    def bound(self, rules: ListRules = ListRules(), blocks: ItemBlocks | None = None) -> int:  # noqa: B008
        """What the formula says of a task's memory."""
        tasks = CORES * -(-len(self.queries) // (CORES * USER_BLOCK_ROWS))
        rows = min(USER_BLOCK_ROWS, -(-len(self.queries) // tasks))
        return task_bytes(blocks or self.blocks, self.k, rows, rules)

    def packed(self) -> tuple[ItemBlocks, float]:
        """The item blocks, as the last publication of item vectors leaves them, and the seconds that took."""
        items, started = self.lake.read(self.spark, ITEM_VECTORS), time.perf_counter()
        blocks = write_item_blocks(items, f"{self.lake.uri}/_b/{started}", ITEM_BLOCK_ROWS, tasks=CORES)
        return blocks, time.perf_counter() - started

    def exact(self, compiled: bool = True) -> None:
        """Read profiles and blocks, join, write, commit."""
        self._join(self.blocks, compiled)

    def faiss(self) -> None:
        """All cores, no Spark."""
        import faiss

        faiss.omp_set_num_threads(CORES)
        faiss.knn(self.queries, self.items, self.k, metric=faiss.METRIC_INNER_PRODUCT)

    def approximate(self, pairs: int) -> dict[str, object]:
        """Against the exact join over the same blocks; the index, like the blocks, is built apart."""
        options = TopKOptions(lake=self.lake.uri, run_date="2000-01-01", k=self.k, approximate=True)
        count, started = cluster_count(options.clusters, len(self.items)), time.perf_counter()
        vectors = self.lake.read(self.spark, ITEM_VECTORS)
        groups = centroids(vectors, count, len(self.items), options.grouping_seed)
        index = write_item_blocks(vectors, f"{self.lake.uri}/_b/lists", ITEM_BLOCK_ROWS, tasks=CORES, centroids=groups)
        built = time.perf_counter() - started
        blocks = write_item_blocks(vectors, f"{self.lake.uri}/_b/plain", ITEM_BLOCK_ROWS, tasks=CORES)
        profiles, run = self.lake.read(self.spark, USER_PROFILES), Run("bench", self.lake, Progress())

        def join(options: TopKOptions) -> tuple[Staged, dict[str, Any]]:
            stage = lambda users, nprobe: self._stage(index, users, ListRules(nprobe=nprobe))  # noqa: E731
            staged, record = stage_with_recall(run, options, index, profiles, stage)
            self.lake.commit(staged, f"approximate {time.perf_counter()}")
            return staged, record

        found, record = join(options)
        known = options.model_copy(update={"nprobe": record["recall"]["nprobe"]})
        exact = self._stage(blocks, profiles)
        _, speedup = paired("exact", lambda: self._join(blocks), "approximate", lambda: join(known), pairs)
        lists = [self.lake.read_staged(self.spark, part).select("user_id", "item_id") for part in (found, exact)]
        full = lists[0].intersect(lists[1]).count() / lists[1].count()
        return {
            "speedup": speedup,
            "recall": record["recall"],
            "full_check": round(full, 5),
            "peak_rss_mb": round(self.peak_bytes / 1e6),
            "bound_mb": round(self.bound(ListRules(nprobe=known.nprobe), index) / 1e6),
            "index_s": round(built, 1),
        }

    def als(self, scratch: str, share: int) -> Callable[[], None]:
        """recommendForAllUsers of a model that has these vectors as its factors."""
        from pyspark.ml.recommendation import ALSModel

        folder = f"{scratch}/als"
        for name, rows in (("userFactors", self.queries[::share]), ("itemFactors", self.items)):
            features = self._frame(rows, f"{scratch}/{name}.npy", "id int, features array<float>")
            features.write.parquet(f"{folder}/{name}")
        about = {"class": "org.apache.spark.ml.recommendation.ALSModel", "timestamp": 0, "uid": "ALS_bench"}
        about |= {"sparkVersion": self.spark.version, "paramMap": {}, "rank": self.items.shape[1]}
        about["defaultParamMap"] = {"predictionCol": "prediction", "userCol": "user", "itemCol": "item"} | {
            "coldStartStrategy": "nan",
            "blockSize": 4096,
        }
        self.spark.sparkContext.parallelize([json.dumps(about)], 1).saveAsTextFile(f"{folder}/metadata")
        model = ALSModel.load(folder)
        return lambda: noop(model.recommendForAllUsers(self.k))

    def cross_join(self) -> None:
        """On the slice, with Spark's own dot product and a window."""
        users, items = self._slice()
        score = F.expr("vector_inner_product(profile, embedding)")
        order = Window.partitionBy("user_id").orderBy(F.desc("score"), "item_id")
        pairs = users.crossJoin(items).select("user_id", "item_id", score.alias("score"))
        noop(pairs.withColumn("rank", F.row_number().over(order)).where(F.col("rank") <= self.k))

    def nearest_by(self) -> None:
        """On the slice, with Spark's own join."""
        users, items = self._slice()
        score = F.expr("vector_inner_product(profile, embedding)")
        noop(users.nearestByJoin(items, score, min(self.k, 100), "exact", "similarity"))

    def _slice(self) -> tuple[DataFrame, DataFrame]:
        users = self.lake.read(self.spark, USER_PROFILES).limit(SLICE[0]).withColumnRenamed("embedding", "profile")
        return users, self.lake.read(self.spark, ITEM_VECTORS).limit(SLICE[1])

    def _join(self, blocks: ItemBlocks, compiled: bool = True) -> None:
        self._runs += 1
        profiles = self.lake.read(self.spark, USER_PROFILES)
        self.lake.commit(self._stage(blocks, profiles, compiled=compiled), f"run {self._runs}")

    def _stage(
        self,
        blocks: ItemBlocks,
        profiles: DataFrame,
        rules: ListRules = ListRules(),  # noqa: B008
        compiled: bool = True,
    ) -> Staged:
        tasks = CORES * -(-len(self.queries) // (CORES * USER_BLOCK_ROWS))
        users = users_with_rules(profiles, None, None, tasks)
        rows = list_rows(
            blocks,
            self.k,
            rules,
            USER_BLOCK_ROWS,
            {"run_date": None, "model": "bench", "reasons": None, "source": None},
        )

        def make(batches: Iterator[pa.RecordBatch], notes: TaskStats) -> Iterator[pa.RecordBatch]:
            Path("/proc/self/clear_refs").write_text("5")  # the peak so far was another task's
            cpu_product_module.loops_for = loops_for if compiled else numpy_selects
            started = time.process_time()
            yield from rows(batches, notes)
            notes["cpu"] = time.process_time() - started
            status = Path("/proc/self/status").read_text()
            notes["peak"] = int(status.partition("VmHWM:")[2].split()[0]) * 1024

        staged = self.lake.stage(users, RECOMMENDATIONS, make)
        self.peak_bytes = max([self.peak_bytes, *(notes["peak"] for notes in staged.stats)])
        self.cpu_seconds["compiled" if compiled else "numpy"].append(sum(notes["cpu"] for notes in staged.stats))
        return staged

    def _publish(self, table: Table, rows: np.ndarray, key: str, path: str) -> None:
        frame = self._frame(rows, path, "id int, features array<float>")
        columns = {key: F.format_string(key[0] + "%09d", "id"), "embedding": F.col("features"), "model": F.lit("bench")}
        frame = frame.withColumns(columns)
        missing = {name: F.lit(None).cast(kind) for name, kind in table.columns.items() if name not in columns}
        frame = frame.withColumns(missing).select(*table.columns)
        self.lake.commit(self.lake.stage(frame, table), "bench")

    def _frame(self, rows: np.ndarray, path: str, ddl: str) -> DataFrame:
        np.save(path, rows)

        def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            matrix = np.load(path, mmap_mode="r")
            for batch in batches:
                ids = batch["id"].to_numpy()
                columns = [pa.array(ids.astype(np.int32)), as_lists(np.ascontiguousarray(matrix[ids]))]
                yield pa.RecordBatch.from_arrays(columns, names=["id", "features"])

        return self.spark.range(0, len(rows), 1, 2 * CORES).mapInArrow(read, ddl)


def noop(frame: DataFrame) -> None:
    """Compute all rows and keep none."""
    frame.write.format("noop").mode("overwrite").save()


if __name__ == "__main__":
    main()
