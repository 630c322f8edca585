"""Metrics worked out by hand, and against a slow oracle."""

from datetime import UTC, date, datetime, timedelta
from math import inf, log2

import numpy as np
import pytest
from pyspark.sql import functions as F

from recsys_spark.evaluate.kernels.metrics import rank_metrics
from recsys_spark.evaluate.list_metrics import (
    mean_metrics,
    paired_difference,
    popular_items,
    popularity_lists,
    recently_popular_items,
    relevant_pairs,
    user_metrics,
)

LIST_DDL = "user_id string, item_id string, rank int"
PAIR_DDL = "user_id string, item_id string"
EVENT_DDL = "user_id string, item_id string, event_type string, timestamp timestamp, value double"
RUN_DATE = date(2024, 3, 1)
MIDNIGHT = datetime(2024, 3, 1, tzinfo=UTC)
NAMES = ("hit_rate", "precision", "recall", "ndcg", "mrr")


def lists_of(table):
    return [(user, item, rank) for user, items in table.items() for rank, item in enumerate(items, 1)]


def slow_metrics(items, relevant, k):
    hits = [rank for rank, item in enumerate(items[:k], 1) if item in relevant]
    ideal = sum(1 / log2(rank + 1) for rank in range(1, min(k, len(relevant)) + 1))
    gain = sum(1 / log2(rank + 1) for rank in hits)
    recall = len(hits) / min(k, len(relevant))
    return (float(bool(hits)), len(hits) / k, recall, gain / ideal, 1 / hits[0] if hits else 0.0)


# At k = 3. 1/log2(2) = 1, 1/log2(3) = 0.63093, 1/log2(4) = 0.5.
LISTS = {
    "first": ["a", "b", "c", "d"],
    "second and third": ["b", "a", "c"],
    "beyond the cut": ["b", "c", "d", "a"],
    "short": ["a"],
    "more than k": ["a", "x", "b"],
    "nothing relevant": ["a", "b", "c"],
}
RELEVANT = [
    ("first", "a"),
    *(("second and third", item) for item in "ac"),
    ("beyond the cut", "a"),
    *(("short", item) for item in "ab"),
    *(("more than k", item) for item in "abcdef"),
    ("no list", "a"),
]
BY_HAND = {
    "first": (1, 1 / 3, 1, 1, 1),
    "second and third": (1, 2 / 3, 1, (0.63093 + 0.5) / 1.63093, 1 / 2),
    "beyond the cut": (0, 0, 0, 0, 0),
    "short": (1, 1 / 3, 1 / 2, 1 / 1.63093, 1),
    "more than k": (1, 2 / 3, 2 / 3, 1.5 / 2.13093, 1),
}


def test_metrics_equal_those_worked_out_by_hand(spark):
    frame = user_metrics(spark.createDataFrame(lists_of(LISTS), LIST_DDL), spark.createDataFrame(RELEVANT, PAIR_DDL), 3)
    metrics = {row["user_id"]: [row[name] for name in NAMES] for row in frame.collect()}
    assert metrics == {user: pytest.approx(values, abs=1e-5) for user, values in BY_HAND.items()}


def test_scorers_are_evaluated_side_by_side(spark):
    lists = [(*row, scorer) for scorer, table in (("x", LISTS), ("y", {"first": ["z"]})) for row in lists_of(table)]
    frame = user_metrics(
        spark.createDataFrame(lists, f"{LIST_DDL}, scorer string"),
        spark.createDataFrame(RELEVANT, PAIR_DDL),
        3,
        by=["scorer"],
    )
    metrics = {(row["scorer"], row["user_id"]): row["ndcg"] for row in frame.collect()}
    assert metrics == {("x", user): pytest.approx(by[3], abs=1e-4) for user, by in BY_HAND.items()} | {
        ("y", "first"): 0
    }


@pytest.mark.parametrize("k", [1, 5])
def test_metrics_equal_a_slow_oracle(spark, k):
    random = np.random.default_rng(k)
    lists = {f"u{n}": [f"i{i}" for i in random.permutation(12)[: random.integers(1, 9)]] for n in range(30)}
    truth = {f"u{n}": {f"i{i}" for i in random.permutation(12)[: random.integers(0, 9)]} for n in range(5, 35)}
    pairs = [(user, item) for user, items in truth.items() for item in items]
    frame = user_metrics(spark.createDataFrame(lists_of(lists), LIST_DDL), spark.createDataFrame(pairs, PAIR_DDL), k)
    metrics = {row["user_id"]: [row[name] for name in NAMES] for row in frame.collect()}
    evaluated = [user for user in lists if truth.get(user)]
    assert metrics == {user: pytest.approx(slow_metrics(lists[user], truth[user], k)) for user in evaluated}
    ranks = [
        (row, lists[user].index(item) + 1.0 if item in lists[user] else inf)
        for row, user in enumerate(evaluated)
        for item in truth[user]
    ]
    kernel = rank_metrics(np.array([r for _, r in ranks]), np.array([row for row, _ in ranks]), len(evaluated), k)
    assert metrics == {u: pytest.approx([kernel[name][row] for name in NAMES]) for row, u in enumerate(evaluated)}


def test_means_are_over_users_and_coverage_over_the_catalogue(spark):
    lists = spark.createDataFrame(lists_of({"u": ["a", "b", "c"], "v": ["a", "c", "d"]}), LIST_DDL)
    per_user = spark.createDataFrame([("u", 1.0, 0.5), ("v", 0.0, 0.25)], "user_id string, hit_rate double, mrr double")
    items = spark.createDataFrame([(name,) for name in "abcdefgh"], "item_id string")
    rows = {row["metric"]: (row["value"], row["users"]) for row in mean_metrics(per_user, lists, items, 2).collect()}
    assert rows == {"hit_rate": (0.5, 2), "mrr": (0.375, 2), "coverage": (3 / 8, 2)}


def test_means_of_nobody_and_the_coverage_of_nothing_are_left_out(spark):
    lists = spark.createDataFrame([], LIST_DDL)
    metrics = user_metrics(lists, spark.createDataFrame([], PAIR_DDL), 2)
    assert mean_metrics(metrics, lists, spark.createDataFrame([], "item_id string"), 2).collect() == []


def test_relevant_is_what_a_user_liked_later_and_did_not_have_before(spark):
    before, after, hour = MIDNIGHT - timedelta(microseconds=1), MIDNIGHT + timedelta(days=3), timedelta(hours=1)
    events = [
        ("u", "bought", "purchase", MIDNIGHT, None),
        ("u", "bought", "purchase", after, None),  # twice
        ("u", "had", "view", before, None),
        ("u", "had", "purchase", after, None),
        ("v", "had", "purchase", after, None),
        ("u", "loved", "rating", after, 4.0),
        ("u", "so so", "rating", after, 3.9),
        ("u", "unrated", "rating", after, None),
        ("u", "skipped", "skip", after, None),
        ("u", "ignored", "impression", after, None),
        ("u", "unheard of", "wink", after, None),
        ("u", "old", "purchase", before, None),
        ("u", "disliked, then bought", "skip", before - hour, None),
        ("u", "disliked, then bought", "purchase", after, None),
    ]
    weights = {"purchase": 3.0, "view": 1.0, "rating": 1.0, "skip": -1.0, "impression": 0.0}
    pairs = relevant_pairs(spark.createDataFrame(events, EVENT_DDL), RUN_DATE, weights, 4.0).collect()
    assert sorted(map(tuple, pairs)) == [("u", "bought"), ("u", "loved"), ("v", "had")]


def test_popular_lists_hold_what_is_new_to_each_user_by_earlier_events_then_by_id(spark):
    earlier, later = MIDNIGHT - timedelta(days=1), MIDNIGHT
    counts = {"top": 4, "b": 2, "a": 2, "rare": 1}
    events = [(f"w{n}", item, "view", earlier, None) for item, count in counts.items() for n in range(count)]
    events += [("w9", "rare", "view", later, None)] * 9  # after the run date
    events += [("u", "top", "view", earlier, None)]
    users = spark.createDataFrame([("u",), ("new",), ("w0",), ("u",)], "user_id string")
    log = spark.createDataFrame(events, EVENT_DDL)
    frame = popularity_lists(log, users, RUN_DATE, 2, popular=popular_items(log, RUN_DATE, 3))
    rows = sorted(map(tuple, frame.collect()))
    assert rows == [("new", "a", 2), ("new", "top", 1), ("u", "a", 1), ("u", "b", 2)]
    again = popularity_lists(log, users, RUN_DATE, 2, repeats=True)
    assert sorted(map(tuple, again.where("user_id = 'u'").collect())) == [("u", "a", 2), ("u", "top", 1)]


def test_recent_popularity_decays_by_days_and_counts_what_speaks_for_an_item(spark):
    def day(number):
        return MIDNIGHT - timedelta(days=number)

    events = [("u", "old", "purchase", day(61), None)] * 3 + [("v", "new", "purchase", day(1), None)]
    events += [("w", "skipped", "skip", day(1), None)] * 9 + [("w", "later", "purchase", MIDNIGHT, None)] * 9
    log = spark.createDataFrame(events, EVENT_DDL)
    positive = F.col("event_type") == "purchase"
    for half_life, expected in ((30, ["new", "old"]), (365, ["old", "new"])):
        assert recently_popular_items(log, RUN_DATE, positive, half_life).first()["popular"] == expected


def test_a_difference_is_over_the_users_of_both(spark):
    one, other = (
        spark.createDataFrame(rows, "user_id string, ndcg double")
        for rows in ([("a", 1.0), ("b", 0.5), ("c", 0.0)], [("a", 0.5), ("b", 0.5), ("d", 1.0)])
    )
    row = paired_difference(one, other, "ndcg").first()
    assert (row["mean"], row["users"]) == (0.25, 2)
    assert row["error"] == pytest.approx(0.25)
