"""The demo: a real model on real data, from raw files to lists that a person can read."""

import time
from collections.abc import Mapping
from datetime import date
from typing import Any

from pydantic import Field
from rich.console import Console
from rich.table import Table as View

from recsys_spark.demo.steps.movielens import fetch_movielens_100k
from recsys_spark.evaluate.options import EvaluationOptions
from recsys_spark.evaluate.steps.evaluate_recommendations import evaluate_recommendations
from recsys_spark.publish.steps.publishing import Report, pin_inputs
from recsys_spark.refresh.steps.refresh_lake import RefreshOptions, refresh_lake
from recsys_spark.report.charts import check_installed
from recsys_spark.report.showcase import listed_titles, listed_users, recent_favourites, sample_users
from recsys_spark.report.steps.render_report import ReportOptions, render_report
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import EVENTS, ITEMS, RECOMMENDATIONS, USERS

_USERS = 3


class DemoOptions(RefreshOptions, EvaluationOptions, ReportOptions):
    """Everything has a default."""

    lake: str = Field("lake/demo", description="folder of the demo's lake")
    dataset: str = Field("movielens_100k", description="dataset file")
    data: str = Field("", description="folder with ml-100k.item, .user and .inter; empty: fetched into a cache")
    run_date: date = Field(
        date(1998, 3, 1), description="events before it make the profiles, later ones judge the lists"
    )
    baselines: bool = Field(True, description="also score popularity lists")
    show_ids: bool = Field(True, description="report: ids and texts of users, not a hash of the id")
    explain: int = Field(3, ge=0, description="reasons to keep with every row of a list; 0: none, at no cost")


def demo(run: Run, options: DemoOptions) -> Report:
    """Refresh the demo's lake, evaluate it and show it."""
    started = time.monotonic()
    check_installed()
    if not options.data:
        with run.progress.step("fetch MovieLens 100K"):
            options = options.model_copy(update={"data": str(fetch_movielens_100k())})
    report = refresh_lake(run, options)
    if options.dry_run:
        return report
    with run.progress.step("evaluate_recommendations"):
        judged = evaluate_recommendations(run, options)
    with run.progress.step("pick three users"):
        stories = _stories(run, options)
    console = Console(width=100, highlight=False, markup=False)
    for user in stories:
        _show_user(console, user)
    _show_metrics(console, judged)
    tables = report["tables"] | judged.pop("tables")
    judged.pop("status")
    report = report | judged | {"tables": tables}
    with run.progress.step("render_report"):
        so_far = {"seconds": round(time.monotonic() - started, 1)}
        last = {"job": run.job, "run_date": str(options.run_date)} | report | so_far
        report["report"] = render_report(run, options, last)["report"]
    console.print(f"The report: {report['report']}", soft_wrap=True)
    console.print(f"The lake: {run.lake.uri} (Delta tables: {', '.join(sorted(report['tables']))})")
    console.print("Next: ./spark-submit.sh refresh_lake --help, and README.md, Your own data.\n")
    return report


def _stories(run: Run, options: DemoOptions) -> list[dict[str, Any]]:
    """Three users: few rows, whatever the size of the lake."""
    inputs = pin_inputs(run, RECOMMENDATIONS, EVENTS, ITEMS, USERS)
    lists, events, items = (inputs.frame(run, table) for table in (RECOMMENDATIONS, EVENTS, ITEMS))
    some = sample_users(listed_users(lists, 50 * _USERS), events, options.run_date, _USERS)
    ids = [row["user_id"] for row in some.collect()]
    users = run.spark.createDataFrame([(user,) for user in ids], "user_id string")
    texts = {
        row["user_id"]: row["text"]
        for row in inputs.frame(run, USERS).join(users, on="user_id", how="left_semi").collect()
    }
    liked = recent_favourites(events, items, users, options.run_date, 5).collect()
    offered = listed_titles(lists, items, users).collect()
    return [
        {
            "user_id": user,
            "text": texts.get(user),
            "liked": [row for row in liked if row["user_id"] == user],
            "offered": [row for row in offered if row["user_id"] == user],
        }
        for user in ids
    ]


def _show_user(console: Console, user: Mapping[str, Any]) -> None:
    view = View(title=f"User {user['user_id']}. {user['text'] or ''}", title_justify="left", title_style="bold")
    view.add_column("recent favourites", ratio=5)
    view.add_column("rated", justify="right")
    view.add_column("recommended", ratio=5)
    view.add_column("score", justify="right")
    for place in range(max(len(user["liked"]), len(user["offered"]))):
        liked = user["liked"][place] if place < len(user["liked"]) else None
        offered = user["offered"][place] if place < len(user["offered"]) else None
        view.add_row(
            liked["title"] if liked else "",
            f"{liked['value']:g}" if liked and liked["value"] is not None else "",
            f"{offered['rank']}. {offered['title']}" if offered else "",
            f"{offered['score']:.3f}" if offered else "",
        )
    console.print(view)


def _show_metrics(console: Console, judged: Mapping[str, Any]) -> None:
    if "metrics" not in judged:  # evaluated before figures were kept with the commit
        return
    scorers = {"cosine profile": judged["metrics"], **judged.get("baselines", {})}
    view = View(
        title=f"Against what {judged['users_evaluated']} users liked afterwards",
        title_justify="left",
        title_style="bold",
    )
    view.add_column("scorer")
    names = list(judged["metrics"])
    for name in names:
        view.add_column(name, justify="right")
    for scorer, values in scorers.items():
        view.add_row(scorer, *(f"{values.get(name, float('nan')):.4f}" for name in names))
    console.print(view)
