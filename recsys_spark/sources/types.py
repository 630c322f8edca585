"""Align column types that differ between the files of a source, or that Spark lacks. Pure DataFrame functions."""

from collections.abc import Collection, Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

_WHOLE = ("tinyint", "smallint", "int", "bigint")

_FRACTION = ("float", "double")

_LARGEST = 2.0**63


def plain_timestamps(frame: DataFrame, nanoseconds: Collection[str]) -> DataFrame:
    """``frame`` with timestamps in the columns ``nanoseconds``, which Spark reads as nanoseconds since 1970 (UTC).
    Times are truncated to microseconds."""
    times = {name: F.expr(f"timestamp_micros((`{name}` - pmod(`{name}`, 1000)) div 1000)") for name in nanoseconds}
    return frame.withColumns(times) if times else frame


def aligned(frames: Sequence[DataFrame]) -> list[DataFrame]:
    """The frames with one type per column name.

    Whole numbers take the widest type. Other differences become text, in which a whole number looks the same for
    every type: pandas turns a column of whole numbers into one of fractions as soon as one value is missing.
    """
    kinds: dict[str, set[str]] = {}
    for frame in frames:
        for name, kind in frame.dtypes:
            kinds.setdefault(name.lower(), set()).add(kind)
    mixed = {name: types for name, types in kinds.items() if len(types) > 1}
    return [_with_one_type(frame, mixed) for frame in frames] if mixed else list(frames)


def _with_one_type(frame: DataFrame, mixed: dict[str, set[str]]) -> DataFrame:
    casts = {
        name: _cast(F.col(f"`{name}`"), kind, mixed[name.lower()])
        for name, kind in frame.dtypes
        if name.lower() in mixed
    }
    return frame.withColumns(casts)


def _cast(column: Column, kind: str, kinds: set[str]) -> Column:
    if kinds <= set(_WHOLE):
        return column.cast("bigint")
    if any(other.startswith(("array", "map", "struct", "binary")) for other in kinds):
        return column  # the union finds the common type, or reports that there is none
    if kind in _FRACTION:
        whole = (column == F.floor(column)) & (F.abs(column) < _LARGEST)
        return F.when(whole, column.cast("bigint").cast("string")).otherwise(column.cast("string"))
    return column.cast("string")
