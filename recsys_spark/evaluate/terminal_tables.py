"""Print a comparison as tables on a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table as View

from recsys_spark.evaluate.comparison_summary import OBJECTIVE


def show_comparison(report: Mapping[str, Any], k: int, warnings: Sequence[str]) -> None:
    """Print metrics with intervals, chosen settings, slices, gaps between groups, rating errors and warnings."""
    console = Console(width=120, highlight=False, markup=False)
    console.print(_metrics(report, k))
    for part, view in _VIEWS.items():
        if report[part]:
            console.print(view(report, k))
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow")


def _metrics(report: Mapping[str, Any], k: int) -> View:
    days = "".join(f", {name} {report[name]}" for name in ("valid_from", "test_from") if name in report)
    title = f"{report['protocol']}{days}: test users with a history, all items ranked; 95 % interval in brackets"
    view = _view(title, ["scorer", f"hit_rate@{k}", f"ndcg@{k}"])
    others = ["mrr", "coverage", "gini", "novelty", "diversity"]
    for name in [*others, "chosen on validation"]:
        view.add_column(name, justify="left" if name.startswith("chosen") else "right")
    for name, row in report["metrics"].items():
        values = [f"{row[f'{other}@{k}']:.4f}" if f"{other}@{k}" in row else "–" for other in others]
        chosen = ", ".join(f"{key} {value:g}" for key, value in report["chosen"][name].items())
        view.add_row(name, _with_interval(row, f"hit_rate@{k}"), _with_interval(row, f"ndcg@{k}"), *values, chosen)
    return view


def _ranked_seen(report: Mapping[str, Any], k: int) -> View:
    view = _view("The same with --seen_targets=rank", ["scorer", f"hit_rate@{k}", f"ndcg@{k}"])
    for name, row in report["seen_targets_ranked"].items():
        view.add_row(name, *(f"{row[f'{metric}@{k}']:.4f}" for metric in OBJECTIVE))
    return view


def _windows(report: Mapping[str, Any], k: int) -> View:
    view = _view("Mean of all windows ± standard deviation", ["scorer", f"hit_rate@{k}", f"ndcg@{k}"])
    for name, row in report["windows"].items():
        view.add_row(name, *(f"{row[f'{one}@{k}']:.4f} ± {row[f'{one}@{k}_spread']:.4f}" for one in OBJECTIVE))
    return view


def _slices(report: Mapping[str, Any], k: int) -> View:
    names = list(report["metrics"])
    view = _view(f"hit_rate@{k} by slice, below it ndcg@{k}", ["slice", "users", *names])
    for name, parts in report["slices"].items():
        users = max(part["users"] for part in parts.values())
        if users:
            cells = ("\n".join(f"{parts[one].get(f'{metric}@{k}', 0):.4f}" for metric in OBJECTIVE) for one in names)
            view.add_row(name, f"{users:,}", *cells)
    return view


def _group_gaps(report: Mapping[str, Any], k: int) -> View:
    names = list(report["metrics"])
    view = _view(f"ndcg@{k}: best group minus worst", ["attribute", *names])
    for attribute, gaps in report["group_gaps"].items():
        view.add_row(attribute, *(_with_interval(gaps.get(name, {}), f"ndcg@{k}_gap", f"ndcg@{k}") for name in names))
    return view


def _ratings(report: Mapping[str, Any], k: int) -> View:
    chosen = ", ".join(f"{key} {value:g}" for key, value in report["ratings"]["chosen"].items())
    title = f"Ratings: {report['ratings']['test']:,} predicted; {chosen}, chosen by folds of the others"
    view = _view(title, ["model", "rmse", "mae", "mse"])
    for name, errors in report["ratings"]["errors"].items():
        view.add_row(name, *(f"{errors[error]:.4f}" for error in ("rmse", "mae", "mse")))
    return view


def _view(title: str, columns: Sequence[str]) -> View:
    view = View(title=title, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        view.add_column(column, justify="right" if number else "left")
    return view


def _with_interval(row: Mapping[str, float], name: str, bounds: str | None = None) -> str:
    bounds = bounds or name
    if f"{bounds}_low" not in row:  # too few users for an interval
        return f"{row[name]:.4f}" if name in row else "–"
    return f"{row[name]:.4f}\n({row[f'{bounds}_low']:.3f}–{row[f'{bounds}_high']:.3f})"


_VIEWS = {
    "seen_targets_ranked": _ranked_seen,
    "windows": _windows,
    "slices": _slices,
    "group_gaps": _group_gaps,
    "ratings": _ratings,
}
"""The tables after the first one, by the part of the report that they show."""
