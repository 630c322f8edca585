"""Arrow types of Spark's columns. PySpark's own functions differ between its releases in how they take a time zone."""

import pyarrow as pa
from pyspark.sql.types import ArrayType, DataType, MapType, StructField, StructType, TimestampType

from recsys_spark.sources.kernels.delta_file import STORED_ID, STORED_NAME

_MAPPED = {"name": ("delta.columnMapping.physicalName", STORED_NAME), "id": ("delta.columnMapping.id", STORED_ID)}
"""By mode of Delta's mapping: where the log has the name or id, and where the reader of files finds it."""


def arrow_schema(schema: StructType, mapping: str = "none") -> pa.Schema:
    """The Arrow types of columns, times in UTC.

    ``mapping``: ``delta.columnMapping.mode`` of a table; fields then have the name or id that its files have for them.
    """
    return pa.schema([_field(own, mapping) for own in schema])


def arrow_type(own: DataType, mapping: str = "none") -> pa.DataType:
    """The Arrow type of a column."""
    from pyspark.sql.pandas.types import to_arrow_type

    if isinstance(own, StructType):
        return pa.struct([_field(inner, mapping) for inner in own])
    if isinstance(own, ArrayType):
        return pa.list_(arrow_type(own.elementType, mapping))
    if isinstance(own, MapType):
        return pa.map_(arrow_type(own.keyType, mapping), arrow_type(own.valueType, mapping))
    return pa.timestamp("us", "UTC") if isinstance(own, TimestampType) else to_arrow_type(own)


def _field(own: StructField, mapping: str) -> pa.Field:
    key, name = _MAPPED.get(mapping, ("", b""))
    metadata = {name: str(own.metadata[key]).encode()} if key in own.metadata else None
    return pa.field(own.name, arrow_type(own.dataType, mapping), own.nullable, metadata)
