"""Print a comparison as tables on a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table as View

from recsys_spark.evaluate.comparison_summary import OBJECTIVE


def show_comparison(report: Mapping[str, Any], k: int, warnings: Sequence[str]) -> None:
    """Print metrics with intervals, chosen settings, slices, gaps between groups, rating errors and warnings."""
    console = Console(width=120, highlight=False, markup=False)
    metrics, names = report["metrics"], list(report["metrics"])
    view = _view("Test users, all items ranked; 95 % interval in brackets", ["scorer", f"hit_rate@{k}", f"ndcg@{k}"])
    others = ["mrr", "coverage", "gini", "novelty", "diversity"]
    for name in [*others, "chosen on validation"]:
        view.add_column(name, justify="left" if name.startswith("chosen") else "right")
    for name in names:
        row, setting = metrics[name], report["chosen"][name]
        values = [f"{row[f'{other}@{k}']:.4f}" if f"{other}@{k}" in row else "–" for other in others]
        chosen = ", ".join(f"{key} {value:g}" for key, value in setting.items())
        view.add_row(name, _with_interval(row, f"hit_rate@{k}"), _with_interval(row, f"ndcg@{k}"), *values, chosen)
    console.print(view)
    if report["seen_targets_ranked"]:
        view = _view("The same with --seen_targets=rank", ["scorer", f"hit_rate@{k}", f"ndcg@{k}"])
        for name, row in report["seen_targets_ranked"].items():
            view.add_row(name, f"{row[f'hit_rate@{k}']:.4f}", f"{row[f'ndcg@{k}']:.4f}")
        console.print(view)
    view = _view(f"hit_rate@{k} by slice, below it ndcg@{k}", ["slice", "users", *names])
    for name, parts in report["slices"].items():
        users = max(part["users"] for part in parts.values())
        if users:
            cells = ("\n".join(f"{parts[one].get(f'{metric}@{k}', 0):.4f}" for metric in OBJECTIVE) for one in names)
            view.add_row(name, f"{users:,}", *cells)
    console.print(view)
    if report["group_gaps"]:
        view = _view(f"ndcg@{k}: best group minus worst", ["attribute", *names])
        for attribute, gaps in report["group_gaps"].items():
            view.add_row(
                attribute, *(_with_interval(gaps.get(name, {}), f"ndcg@{k}_gap", f"ndcg@{k}") for name in names)
            )
        console.print(view)
    if report["ratings"]:
        chosen = ", ".join(f"{key} {value:g}" for key, value in report["ratings"]["chosen"].items())
        title = f"Ratings: {report['ratings']['test']:,} predicted; {chosen}, chosen by folds of the others"
        view = _view(title, ["model", "rmse", "mae", "mse"])
        for name, errors in report["ratings"]["errors"].items():
            view.add_row(name, *(f"{errors[error]:.4f}" for error in ("rmse", "mae", "mse")))
        console.print(view)
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow")


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
