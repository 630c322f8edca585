"""The Top-K join of two DataFrames: the lists of a brute-force product, and no file left behind."""

import numpy as np
import pytest

from recsys_spark.blocks.steps.block_files import write_item_blocks
from recsys_spark.errors import UsageError
from recsys_spark.topk.steps.top_k_join import top_k_join

K = 3


def vectors(seed, rows, prefix):
    return {f"{prefix}{number}": row for number, row in enumerate(np.random.default_rng(seed).normal(size=(rows, 5)))}


def frame(spark, rows, name):
    return spark.createDataFrame(
        [(key, row.tolist()) for key, row in rows.items()], f"{name} string, embedding array<float>"
    )


def expected(users, items, seen=()):
    unit = {key: (row / np.linalg.norm(row)).astype(np.float32) for key, row in {**users, **items}.items()}
    lists = {}
    for user in users:
        scores = {item: float(unit[user] @ unit[item]) for item in items if (user, item) not in seen}
        lists[user] = sorted(scores, key=scores.get, reverse=True)[:K]
    return lists


def listed(lists):
    found = {}
    for row in lists.orderBy("user_id", "rank").collect():
        found.setdefault(row["user_id"], []).append(row["item_id"])
    return found


def test_two_frames_are_joined_as_a_brute_force_product_says_and_no_file_is_left(spark, tmp_path):
    users, items = vectors(1, 7, "u"), vectors(2, 20, "i")
    seen = [("u0", expected(users, items)["u0"][0])]
    lists = top_k_join(
        frame(spark, users, "user_id"),
        frame(spark, items, "item_id"),
        K,
        scratch=str(tmp_path),
        seen=spark.createDataFrame(seen, "user_id string, item_id string"),
    )
    assert list(tmp_path.iterdir()) == []
    assert listed(lists) == expected(users, items, seen)
    assert listed(lists.where("rank = 1")) == {user: own[:1] for user, own in expected(users, items, seen).items()}


def test_packed_items_are_joined_as_they_lie(spark, tmp_path):
    users, items = vectors(3, 4, "u"), vectors(4, 9, "i")
    blocks = write_item_blocks(frame(spark, items, "item_id"), str(tmp_path / "blocks"), 4, tasks=2)
    assert listed(top_k_join(frame(spark, users, "user_id"), blocks, K)) == expected(users, items)


def test_a_failed_join_leaves_no_file(spark, tmp_path):
    users, items = vectors(5, 2, "u"), vectors(6, 3, "i")
    with pytest.raises(UsageError, match="k must be at least 1"):
        top_k_join(frame(spark, users, "user_id"), frame(spark, items, "item_id"), 0, scratch=str(tmp_path))
    assert list(tmp_path.iterdir()) == []
