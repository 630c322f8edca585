"""Trust in users: what it leaves of an attack on popularity, and whom the ranker learns from."""

from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from pyspark.sql import functions as F

from recsys_spark.events.history import History
from recsys_spark.events.weights import EventWeights
from recsys_spark.ranking.options import AutoOptions
from recsys_spark.ranking.statistics import item_features, trusted_statistics, user_item_statistics
from recsys_spark.ranking.steps.cut import Cut
from recsys_spark.tables.schemas import EVENTS, USER_RISK

CUT = date(2024, 5, 1)
EVENT_DDL = "user_id string, item_id string, event_type string, timestamp timestamp, value double"
RISK_DDL = "user_id string, trust double"


def log(attackers):
    random, midnight = np.random.default_rng(4), datetime(2024, 5, 1, tzinfo=UTC)
    ages = random.integers(1, 40, 40)
    honest = [
        (f"u{n % 7}", f"i{random.integers(0, 5)}", "purchase", midnight - timedelta(days=int(age)), None)
        for n, age in enumerate(ages)
    ]
    pushed = [(name, "i9", "purchase", midnight - timedelta(days=day), None) for name in attackers for day in (1, 1, 3)]
    return honest + pushed


def features(spark, rows, risk=None):
    pairs = user_item_statistics(spark.createDataFrame(rows, EVENT_DDL), CUT, F.col("event_type") == "purchase")
    if risk is not None:
        pairs = trusted_statistics(pairs, spark.createDataFrame(risk, RISK_DDL))
    items = spark.createDataFrame([(f"i{n}",) for n in range(10)], "item_id string")
    return {row["item_id"]: (row["features"], row["popularity"]) for row in item_features(items, pairs).collect()}


def test_four_users_of_a_quarter_of_trust_count_as_one(spark):
    four = [f"x{n}" for n in range(4)]
    risk = [*((name, 0.25) for name in four), ("u0", 1.0)]
    trusted, one = features(spark, log(four), risk), features(spark, log(["x"]))
    assert trusted.keys() == one.keys()
    for item, (values, popularity) in one.items():
        np.testing.assert_allclose(trusted[item][0], values, rtol=1e-4)  # counts are whole units
        assert popularity is None or trusted[item][1] == pytest.approx(popularity, rel=1e-4)
    assert features(spark, log(four))["i9"][1] > one["i9"][1]


def test_the_ranker_learns_from_nobody_who_is_distrusted(spark):
    frames = {
        EVENTS.name: spark.createDataFrame(log(["x", "y"]), EVENT_DDL),
        USER_RISK.name: spark.createDataFrame([("x", 0.25), ("y", 1.0)], RISK_DDL),
    }

    def cut(*tables):
        inputs = SimpleNamespace(versions=dict.fromkeys(tables), frame=lambda _, table: frames[table.name])
        options = AutoOptions(lake="lake", run_date=CUT)
        return Cut(None, inputs, options, CUT, (EventWeights({}, 3.0, 0.0), History()))

    learned = {row["user_id"] for row in cut(EVENTS.name, USER_RISK.name).trusted_events.collect()}
    assert {"y", "u0"} <= learned
    assert "x" not in learned
    assert "x" in {row["user_id"] for row in cut(EVENTS.name).trusted_events.collect()}
