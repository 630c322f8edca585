"""Lists of a batch of users under every rule: compiled selection against NumPy, row for row. Without a JVM."""

from dataclasses import replace
from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from recsys_spark.arrays.arrow import as_lists
from recsys_spark.topk import profile_scorer
from recsys_spark.topk.kernels import cpu_product
from recsys_spark.topk.kernels.compilation import compiled_loops
from recsys_spark.topk.kernels.shortlist import NUMPY
from recsys_spark.topk.lists import ListRules
from recsys_spark.topk.profile_scorer import ProfileScorer

USERS, ITEMS, WIDTH, DAY = 60, 900, 12, date(2024, 5, 1)


class Blocks:
    """Items in memory, with the interface of ``ItemBlocks``: near copies of 90 vectors, with every rule's column."""

    def __init__(self, step, clusters=0):
        self.rows, self.dimension, self.clusters, self._step = ITEMS, WIDTH, clusters, step
        random = np.random.default_rng(1)
        near = random.normal(size=(90, WIDTH))[random.integers(0, 90, ITEMS)]
        vectors = near + random.choice([0, 1e-7, 0.05], (ITEMS, 1)) * random.normal(size=(ITEMS, WIDTH))
        self.vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        keys = np.sort(random.choice(["de", "fr"], ITEMS))
        self._table = pa.table(
            {
                "item_id": [f"i{n:04}" for n in range(ITEMS)],
                "match_key": keys.tolist(),
                "quota_group": pa.array(random.integers(0, 40, ITEMS), pa.int64()),
                "boost": pa.array(random.choice([0, 0.25, -0.5], ITEMS), pa.float32()),
                "available_from": pa.array([[None, date(2024, 6, 1)][n % 9 == 0] for n in range(ITEMS)], pa.date32()),
                "available_until": pa.array([None] * ITEMS, pa.date32()),
                "ordinal": np.arange(ITEMS),
                "cluster": pa.array(np.arange(ITEMS) * max(clusters, 1) // ITEMS, pa.int32()),
                "embedding": as_lists(self.vectors),
            }
        )

    def blocks(self):
        for start in range(0, ITEMS, self._step):
            part = pa.array(range(start, min(start + self._step, ITEMS)))
            yield self._table.take(part).combine_chunks().to_batches()[0]

    ids = blocks

    def centroids(self):
        parts = np.array_split(self.vectors.astype(np.float64), self.clusters)
        return np.stack([part.mean(axis=0) for part in parts]).astype(np.float32)


def users():
    random = np.random.default_rng(2)
    items = Blocks(ITEMS)
    seen = [[f"i{n:04}" for n in random.integers(0, ITEMS, 30)] for _ in range(USERS)]
    allowed = [[f"i{n:04}" for n in range(0, ITEMS, 7)] if user % 10 == 0 else None for user in range(USERS)]
    return pa.table(
        {
            "user_id": [f"u{n:02}" for n in range(USERS)],
            "embedding": as_lists(items.vectors[random.integers(0, ITEMS, USERS)]),
            "seen": pa.array(seen, pa.list_(pa.string())),
            "allowed": pa.array(allowed, pa.list_(pa.string())),
            "match_key": random.choice(["de", "fr", "it"], USERS).tolist(),
            "stratum": pa.array([None] * USERS, pa.int32()),
            "floor": pa.array([0.9 if user % 11 == 0 else None for user in range(USERS)], pa.float32()),
        }
    )


def rows(k, rules, step, monkeypatch, product, loops):
    monkeypatch.setattr(cpu_product, "loops_for", lambda flops: loops)
    monkeypatch.setattr(cpu_product, "_product", lambda flops, threads: product)
    items = Blocks(step, clusters=16)
    scorer = ProfileScorer(users(), items, k, rules)
    for block in items.blocks():
        scorer.update(block)
    return pa.Table.from_batches(list(scorer.lists()))


def in_bf16():
    from recsys_spark.topk.kernels.bf16_product import bf16_product

    return bf16_product(1)


@pytest.mark.parametrize("product", [lambda: NUMPY, in_bf16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    "rules",
    [
        ListRules(),
        ListRules(min_score=0.5, boosts=True, run_date=DAY),
        ListRules(quota=2, boosts=True),
        ListRules(keyed=True),
        ListRules(nprobe=5),
        ListRules(diversity=0.4),
    ],
    ids=lambda rules: ", ".join(f"{n}" for n, v in vars(rules).items() if v != getattr(ListRules(), n)) or "none",
)
def test_compiled_selection_lists_the_same_rows(monkeypatch, rules, product):
    small = replace(product(), rows=16, columns=130)
    expected = rows(10, rules, 333, monkeypatch, small, None)
    assert expected.num_rows > USERS
    assert rows(10, rules, 333, monkeypatch, small, compiled_loops()).equals(expected)


def test_a_task_on_a_gpu_scores_by_the_loops(monkeypatch):
    from recsys_spark.topk.kernels import torch_product

    on_cpu = torch_product.torch_product("cpu")
    monkeypatch.setattr(profile_scorer, "task_device", lambda context: "cuda:0")
    monkeypatch.setattr(torch_product, "torch_product", lambda device: on_cpu)
    found = []
    for loops in (None, compiled_loops()):
        monkeypatch.setattr(profile_scorer, "loops_for", lambda flops, loops=loops: loops)
        found.append(rows(10, ListRules(), 333, monkeypatch, NUMPY, None))
    assert found[0].equals(found[1])
