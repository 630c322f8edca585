"""The column ``attributes`` of items and users: values that rules read, as a JSON object. Column expressions."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


def attributes(raw: DataFrame) -> Column:
    """A struct or map as JSON, a string as it is; null where nothing is given."""
    given = F.col("attributes")
    text = F.to_json(given) if _has_parts(raw) else F.trim(given.cast("string"))
    return F.when(~text.isin("", "{}"), text)


def no_attributes(raw: DataFrame) -> Column:
    """The reason why a row is bad: its attributes are no JSON object; null if they are one."""
    if _has_parts(raw):
        return F.lit(None).cast("string")
    text = attributes(raw)
    return F.when(text.isNotNull() & F.json_object_keys(text).isNull(), "attributes is not a JSON object")


def _has_parts(raw: DataFrame) -> bool:
    return dict(raw.dtypes)["attributes"].startswith(("struct", "map"))
