"""Predicted ratings of planted users: how much each model must explain."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from recsys_spark.arrays.vectors import unit_rows
from recsys_spark.evaluate.steps.rating_errors import rating_errors

START = datetime(2024, 1, 1, tzinfo=UTC)
IDS = pa.array([f"i{n:02}" for n in range(30)])
DDL = "user_id string, item_id string, event_type string, timestamp timestamp, value double"


@pytest.fixture(scope="module")
def planted():
    """80 users who rate 15 of 30 items by a bias of their own, one of the item, and a taste that the vectors know."""
    random = np.random.default_rng(5)
    vectors, tastes = unit_rows(random.standard_normal((30, 3))), unit_rows(random.standard_normal((80, 3)))
    users, items = random.normal(0, 0.7, 80), random.normal(0, 0.7, 30)
    rows = []
    for user in range(80):
        for day, item in enumerate(random.permutation(30)[:15]):
            value = 3 + users[user] + items[item] + float(tastes[user] @ vectors[item]) + random.normal(0, 0.1)
            rows.append((f"u{user:02}", IDS[int(item)].as_py(), "rating", START + timedelta(days=day), float(value)))
    return rows, vectors


def test_each_part_explains_what_was_planted(spark, planted):
    rows, vectors = planted
    other = [("u00", "i00", "view", START, None), ("u00", "removed", "rating", START, 5.0)]
    report = rating_errors(spark.createDataFrame(rows + other, DDL).repartition(3), IDS, vectors, seed=1)
    assert report["train"] + report["test"] == len(rows)
    assert 0.2 < report["test"] / len(rows) < 0.3
    errors = {name: values["mse"] for name, values in report["errors"].items()}
    assert errors["biases"] < 0.6 * errors["mean"]
    assert errors["biases_and_text"] < 0.8 * errors["biases"]
    assert errors["biases_and_neighbours"] < 0.95 * errors["biases"]
    again = rating_errors(spark.createDataFrame(rows, DDL).repartition(1), IDS, vectors, seed=1)
    assert again["errors"]["biases"] == report["errors"]["biases"]


def test_without_ratings_there_is_nothing_to_predict(spark):
    views = spark.createDataFrame([("u1", "i00", "view", START, None)], DDL)
    assert rating_errors(views, IDS, np.zeros((30, 3), np.float32), seed=1) == {}


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
def test_a_few_ratings_are_predicted_or_left_out(spark, count):
    random = np.random.default_rng(count)
    pairs = [(f"u{n % 3}", IDS[n].as_py(), "rating", START, float(random.integers(1, 6))) for n in range(count)]
    for seed in range(3):
        report = rating_errors(
            spark.createDataFrame(pairs, DDL).coalesce(1), IDS[:20], unit_rows(np.eye(20, 4) + 0.1), seed
        )
        assert not report or report["train"] + report["test"] == count
        assert all(np.isfinite(list(values.values())).all() for values in report.get("errors", {}).values())
