"""Print online metrics as tables on a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table as View

_TITLES = {
    "off_policy": "Mean reward of an impression; gains are differences from what was logged",
    "interleave": "Share of the users with a preference who prefer team b",
    "ab": "Effect of the treatment: difference of the means of the metric",
    "power": "Smallest effect that the test can find",
}

_COLUMNS = ("estimate", "low", "high", "users", "ess")

_APART = ("mode", "level", "metrics", "warnings")


def show_estimates(report: Mapping[str, Any]) -> None:
    """Print metrics with intervals, further figures and warnings."""
    console = Console(width=120, highlight=False, markup=False)
    rows, view = report["metrics"], View()
    columns = [name for name in _COLUMNS if any(row.get(name) is not None for row in rows.values())]
    for column in ("metric", *columns):
        view.add_column(column, justify="left" if column == "metric" else "right")
    for name, row in rows.items():
        view.add_row(
            name, *(_text(round(row[key]) if key == "ess" and key in row else row.get(key)) for key in columns)
        )
    console.print(_title(report), style="bold")
    console.print(view)
    for name, value in report.items():
        if name not in _APART:
            console.print(f"{name.replace('_', ' ')}: {_text(value)}")
    for warning in report["warnings"]:
        console.print(f"warning: {warning}", style="yellow")


def _title(report: Mapping[str, Any]) -> str:
    return f"{_TITLES[report['mode']]}; {100 * report['level']:g} % intervals"


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items()) or "–"
    if isinstance(value, list):
        return " to ".join(map(_text, value))
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
