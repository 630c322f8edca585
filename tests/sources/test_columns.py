"""What changed in the columns of a source, in words."""

from recsys_spark.sources.columns import column_changes


def test_columns_that_are_new_missing_or_of_another_type_are_named():
    before = {"log": {"user": "string", "stars": "bigint", "old": "int"}, "items": {"sku": "string"}, "other": {}}
    now = {"log": {"user": "string", "stars": "double", "new": "date"}, "items": {"sku": "string"}, "more": {}}
    assert column_changes(before, now) == [
        "the columns of source 'log' changed since the last run: old is missing (it was int); new is new (date); "
        "stars is double, was bigint"
    ]
    assert column_changes({}, now) == []
