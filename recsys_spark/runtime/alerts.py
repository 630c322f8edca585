"""Alerts: bounds of a run's figures. A figure outside its bound is said in words; the run itself does not fail."""

import json
import math
import operator
import re
from collections.abc import Mapping
from typing import Any

_BOUNDS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
_BOUND = re.compile(r"\s*(<=|>=|<|>)\s*(\S+)\s*")


def checked_alerts(value: Any) -> dict[str, str]:
    """The key ``alerts``, as a table or as JSON.

    Raises:
        ValueError: not a table of bounds such as ``{"seconds": "<= 3600"}``.
    """
    example = 'write it like {"seconds": "<= 3600", "tables.recommendations": ">= 1000"}'
    try:
        table = json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg}); {example}") from error
    if not isinstance(table, Mapping) or not all(isinstance(words, str) for words in table.values()):
        raise ValueError(f"not a table of figures and bounds; {example}")
    wrong = [f"{figure}: '{words}'" for figure, words in table.items() if _parsed(words) is None]
    if wrong:
        raise ValueError(f"{', '.join(wrong)} is no bound; {example}")
    return dict(table)


def alerts_of(report: Mapping[str, Any], bounds: Mapping[str, str]) -> list[str]:
    """A sentence for every figure outside its bound, in the order of ``bounds``.

    A figure of a nested table is named with dots, such as ``tables.recommendations``. Without it a run that is done
    raises an alert; one that failed, or had nothing to do, has few figures, and only those that it has are compared.
    """
    alerts = []
    for figure, words in bounds.items():
        value = _figure(report, figure)
        if value is None:
            if report["status"] == "done":
                alerts.append(f"the report has no figure {figure}, which should be {words}")
            continue
        holds, limit = _parsed(words) or (operator.eq, value)
        if not holds(value, limit):
            alerts.append(f"{figure} is {value}, and should be {words}")
    return alerts


def _parsed(words: str) -> tuple[Any, float] | None:
    match = _BOUND.fullmatch(words)
    try:
        limit = float(match[2]) if match else math.nan
    except ValueError:
        return None
    return (_BOUNDS[match[1]], limit) if match and math.isfinite(limit) else None


def _figure(report: Mapping[str, Any], name: str) -> float | None:
    value: Any = report
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
