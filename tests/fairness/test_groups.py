"""Groups of items, and the categories of histories."""

from datetime import date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.fairness.groups import category_names, head_threshold, history_shares, item_groups

DAY = date(2024, 3, 1)


@pytest.fixture(scope="module")
def shop(spark):
    items = spark.createDataFrame(
        [("a", "X", ["Home", "Pans"]), ("b", None, ["Home"]), ("c", "Y", None)],
        "item_id string, brand string, category array<string>",
    )
    then, later = datetime(2024, 2, 1), datetime(2024, 3, 2)
    rows = [("a", then)] * 3 + [("b", then), ("c", later)]
    return items, spark.createDataFrame(rows, "item_id string, timestamp timestamp")


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        ("brand", {"a": "X", "b": None, "c": "Y"}),
        ("category", {"a": "Pans", "b": "Home", "c": None}),
        ("popularity", {"a": "head", "b": "tail", "c": "tail"}),
        ("novelty", {"a": "warm", "b": "warm", "c": "cold"}),
    ],
)
def test_every_item_has_its_group(shop, on, expected):
    rows = item_groups(*shop, on, DAY, head_from=3).collect()
    assert {row["item_id"]: row["group_name"] for row in rows} == expected


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 20)), unique_by=lambda one: one[0]))
def test_the_head_has_half_of_all_events_and_no_smaller_head_has(counts):
    threshold, total = head_threshold(counts), sum(n * items for n, items in counts)
    head = sum(n * items for n, items in counts if n >= threshold)
    smaller = sum(n * items for n, items in counts if n > threshold)
    assert head * 2 >= total
    assert smaller * 2 < total or not counts


def test_a_history_has_the_categories_of_its_items_in_equal_parts(spark, shop):
    items, _ = shop
    pairs = spark.createDataFrame([("u", "a"), ("u", "b"), ("v", "c")], "user_id string, item_id string")
    names = {row["item_id"]: row["names"] for row in category_names(items).collect()}
    home = names["b"][0]
    rows = history_shares(pairs, category_names(items)).collect()
    assert {row["user_id"] for row in rows} == {"u"}, "an item without a category says nothing"
    shares = {one["name"]: one["share"] for one in rows[0]["history"]}
    assert shares[home] == pytest.approx(0.75)
    assert sum(shares.values()) == pytest.approx(1)
