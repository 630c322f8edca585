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

_APART = ("mode", "level", "metrics", "warnings")


def show_estimates(report: Mapping[str, Any]) -> None:
    """Print metrics with intervals, further figures and warnings."""
    console = Console(width=120, highlight=False, markup=False)
    view = View(title=_title(report), title_justify="left", title_style="bold")
    for number, column in enumerate(("metric", "estimate", "low", "high", "users", "ess")):
        view.add_column(column, justify="right" if number else "left")
    for name, row in report["metrics"].items():
        numbers = [_text(row.get(key)) for key in ("estimate", "low", "high")]
        view.add_row(name, *numbers, f"{row['users']:,}", f"{row['ess']:,.0f}" if "ess" in row else "–")
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
