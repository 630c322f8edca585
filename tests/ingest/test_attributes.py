"""Attributes of items and users: a struct, a map or a JSON object, stored as JSON."""

import json

import pytest

from recsys_spark.ingest.validation import validate_items, validate_users


@pytest.mark.parametrize(
    ("expression", "stored"),
    [
        ("struct(id + 1 AS size, array('a') AS names)", {"size": 2, "names": ["a"]}),
        ("map('district', 'north')", {"district": "north"}),
        ("' {\"size\": 2} '", {"size": 2}),
        ("struct(cast(null AS int) AS size)", None),
        ("''", None),
        ("cast(null AS string)", None),
    ],
)
def test_attributes_are_stored_as_json(spark, expression, stored):
    raw = spark.range(1, 2).selectExpr("cast(id AS string) AS user_id", f"{expression} AS attributes")
    [row] = validate_users(raw, [], 100).collect()
    assert row["reason"] is None
    assert (row["attributes"] and json.loads(row["attributes"])) == stored


def test_what_is_no_json_object_is_a_bad_row(spark):
    given = [("a", "[1]"), ("b", "size 3"), ("c", '{"size": 3}')]
    others = (f"cast(null AS string) AS {name}" for name in ("title", "category", "brand", "price", "updated_at"))
    raw = spark.createDataFrame(given, "item_id string, attributes string").selectExpr("*", *others)
    rows = {row["item_id"]: row["reason"] for row in validate_items(raw, [], 100).collect()}
    assert rows == {"a": "attributes is not a JSON object", "b": "attributes is not a JSON object", "c": None}
