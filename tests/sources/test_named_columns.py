"""A source gives the columns that its queries name, and all of them where a query does more than name columns."""

import pytest

from recsys_spark.sources.dataset_file import Dataset
from recsys_spark.sources.names import named_columns

COLUMNS = ["sku", "user", "At", "the day", "price", "spare"]


def columns(events=None, **more):
    events = {"from": "log", "select": {"user_id": "user", "timestamp": "at"}} | (events or {})
    items = {"from": "items", "select": {"item_id": "spare"}}
    sources = {"log": {"path": "log"}, "items": {"path": "items"}}
    dataset = {"title": "t", "sources": sources, "items": items, "events": events} | more
    return named_columns(COLUMNS, Dataset.model_validate(dataset), "log")


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ({}, ["user", "At"]),
        ({"where": "`the day` > '2024' -- spare"}, ["user", "At", "the day"]),
        ({"select": {"user_id": "coalesce(user, 'sku')", "value": "price.amount / 2"}}, ["user", "price"]),
        ({"select": {"user_id": "'x'"}}, ["sku"]),
    ],
)
def test_a_query_of_one_source_reads_the_columns_that_it_names(events, expected):
    assert columns(events) == expected


@pytest.mark.parametrize(
    "events",
    [
        {"from": "LOG"},
        {"from": "log AS t(a, b)"},
        {"from": "(SELECT user, at FROM log)"},
        {"select": {"user_id": "to_json(struct(*))"}},
        {"where": "user IN (SELECT user FROM items)"},
    ],
)
def test_any_other_use_of_a_source_reads_all_columns(events):
    assert columns(events) == COLUMNS


def test_every_query_of_the_dataset_file_counts():
    assert columns(users={"from": "log", "select": {"user_id": "spare"}}) == ["user", "At", "spare"]
    reviews = {"from": "log", "select": {"text": "sku"}}
    assert columns(reviews=reviews) == ["sku", "user", "At"]
    assert columns(users={"from": "log JOIN items USING (sku)", "select": {"user_id": "spare"}}) == COLUMNS
