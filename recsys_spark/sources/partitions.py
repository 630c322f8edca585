"""Conditions on partition columns: ``day >= 2024-03-01``."""

import operator
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from recsys_spark.errors import UsageError

_CONDITION = re.compile(r"\s*(?:`([^`]+)`|(\w+))\s*(!=|<=|>=|=|<|>)\s*(?:'([^']*)'|([^'\s](?:[^']*[^'\s])?))\s*")

_OPERATORS = {"=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
              ">=": operator.ge}  # fmt: skip


@dataclass(frozen=True)
class Condition:
    """A comparison of a column with a value."""

    column: str
    sign: str
    value: str


def conditions(name: str, texts: Sequence[str], columns: Collection[str]) -> list[Condition]:
    """The conditions of the source ``name``.

    Raises:
        UsageError: a text is no comparison, or its column is none of ``columns``.
    """
    wanted = []
    for text in texts:
        match = _CONDITION.fullmatch(text)
        if match is None:
            raise UsageError(
                f"[sources.{name}]: partitions has {text!r}, which is no comparison of a column with a value, such as "
                '"day >= 2024-03-01"; signs: = != < <= > >='
            )
        quoted, plain, sign, text_value, bare = match.groups()
        wanted.append(Condition(quoted or plain, sign, bare if text_value is None else text_value))
    if other := [one.column for one in wanted if one.column not in columns]:
        there = ", ".join(columns) or "none"
        raise UsageError(
            f"[sources.{name}]: partitions names {', '.join(other)}, which is no partition column (those are: {there})"
            ". Put conditions on other columns into `where` of the query"
        )
    return wanted


def hold(name: str, wanted: Sequence[Condition], values: Mapping[str, Any], types: Mapping[str, pa.DataType]) -> bool:
    """Whether all conditions hold for the partition ``values``. No comparison with a missing value holds.

    Raises:
        UsageError: a value of a condition is not of the type of its column.
    """
    for one in wanted:
        value = values[one.column]
        try:
            bound = typed(one.value, types[one.column])
        except (pa.ArrowException, ValueError) as error:
            raise UsageError(
                f"[sources.{name}]: partitions compares {one.column}, which is {types[one.column]}, with {one.value!r}"
            ) from error
        if value is None or not _OPERATORS[one.sign](value, bound):
            return False
    return True


def typed(text: str | None, kind: pa.DataType) -> Any:
    """The value of a text in the log of a Delta table; an empty text is a missing value."""
    if not text:
        return None
    if pa.types.is_timestamp(kind) and kind.tz is not None:  # without a zone it is UTC
        with_zone = re.search(r"(Z|[+-]\d\d:?\d\d)$", text)
        plain = pa.timestamp(kind.unit, "UTC") if with_zone else pa.timestamp(kind.unit)
        return pa.scalar(text).cast(plain).cast(kind).as_py()
    return pa.scalar(text.lower() if pa.types.is_boolean(kind) else text).cast(kind).as_py()
