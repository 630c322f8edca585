"""The demo: a real model on real data, from raw files to recommendations that a person can read."""

import time
from collections.abc import Mapping
from datetime import date
from itertools import zip_longest
from typing import Any

from pydantic import Field
from rich.console import Console
from rich.table import Table as View

from recsys_spark.demo.steps.live_act import live_act
from recsys_spark.demo.steps.movielens import fetch_movielens_100k
from recsys_spark.errors import UsageError
from recsys_spark.evaluate.options import EvaluationOptions
from recsys_spark.evaluate.steps.evaluate_recommendations import evaluate_recommendations
from recsys_spark.publish.steps.publishing import Report, pin_inputs
from recsys_spark.refresh.steps.refresh_lake import RefreshOptions, refresh_lake
from recsys_spark.report.charts import check_installed
from recsys_spark.report.showcase import listed_titles, listed_users, new_users, recent_favourites, sample_users
from recsys_spark.report.steps.render_report import ReportOptions, render_report
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.places import command
from recsys_spark.tables.schemas import EVENTS, ITEMS, RECOMMENDATIONS, USERS

_USERS = 3


class DemoOptions(RefreshOptions, EvaluationOptions, ReportOptions):
    """Demo: every key has a default."""

    lake: str = Field("lake/demo", description="folder of the demo's lake")
    dataset: str = Field(
        "movielens_100k", description="name of a file in conf/datasets, or path of your own dataset file (.toml)"
    )
    data: str = Field(
        "", description="folder with ml-100k.item, ml-100k.user and ml-100k.inter; empty: download them into a cache"
    )
    run_date: date = Field(
        date(1998, 3, 1),
        description="date that splits the events, YYYY-MM-DD: profiles use events before it, metrics the events from "
        "it on",
    )
    baselines: bool = Field(True, description="also evaluate popularity lists")
    show_ids: bool = Field(True, description="report: show ids and texts of users instead of a hash of the id")
    live: bool = Field(
        False, description="second act: a user rates three films, and stream_profiles changes the list within seconds"
    )
    explain: int = Field(
        3, ge=0, description="number of reasons stored with every row of a list; 0 stores none and costs nothing"
    )


def demo(run: Run, options: DemoOptions) -> Report:
    """Refresh the demo's lake, evaluate its lists, print examples and metrics, and render the report."""
    started = time.monotonic()
    check_installed()
    if options.live and (options.dataset != "movielens_100k" or options.scorer not in ("auto", "hybrid")):
        raise UsageError(
            "--live sends ratings of MovieLens 100K and shows lists by item weights: leave --dataset out, and take "
            "--scorer=auto or hybrid"
        )
    if not options.data:
        with run.progress.step("fetch MovieLens 100K"):
            options = options.model_copy(update={"data": str(fetch_movielens_100k())})
    report = refresh_lake(run, options)
    if options.dry_run:
        return report
    with run.progress.step("evaluate_recommendations"):
        evaluation = evaluate_recommendations(run, options)
    with run.progress.step("pick three users"):
        users = _sample_users(run, options)
    console = Console(width=100, highlight=False, markup=False)
    for user in users:
        _print_user(console, user)
    _print_metrics(console, evaluation)
    if options.live:
        with run.progress.step("stream_profiles"):
            report |= live_act(run, console, options.dataset, users[0]["user_id"], options.run_date)
    tables = report["tables"] | evaluation.pop("tables")
    evaluation.pop("status")
    report = report | evaluation | {"tables": tables}
    with run.progress.step("render_report"):
        cost = {"seconds": round(time.monotonic() - started, 1)}
        status = {"job": run.job, "run_date": str(options.run_date)} | report | cost
        report["report"] = render_report(run, options, status)["report"]
    console.print(f"The report: {report['report']}", soft_wrap=True)
    console.print(f"The lake: {run.lake.uri} (Delta tables: {', '.join(sorted(report['tables']))})")
    console.print(f"Next: {command()} refresh_lake --help, and README.md, Your own data.\n")
    return report


def _sample_users(run: Run, options: DemoOptions) -> list[dict[str, Any]]:
    """Three users with their text, their favourites and their lists; one has no earlier event. Few rows of any lake."""
    inputs = pin_inputs(run, RECOMMENDATIONS, EVENTS, ITEMS, USERS)
    lists, events, items = (inputs.frame(run, table) for table in (RECOMMENDATIONS, EVENTS, ITEMS))
    listed = listed_users(lists, 50 * _USERS)
    new = new_users(listed, events, options.run_date, 1)
    sample = sample_users(listed, events, options.run_date, _USERS)
    ids = [row["user_id"] for row in sample.collect()]
    ids = [*ids[: _USERS - 1], *[row["user_id"] for row in new.collect()]] or ids
    users = run.spark.createDataFrame([(user,) for user in ids], "user_id string")
    texts = {
        row["user_id"]: row["text"]
        for row in inputs.frame(run, USERS).join(users, on="user_id", how="left_semi").collect()
    }
    favourites = recent_favourites(events, items, users, options.run_date, 5).collect()
    recommended = listed_titles(lists, items, users).collect()
    return [
        {
            "user_id": user,
            "text": texts.get(user),
            "favourites": [row for row in favourites if row["user_id"] == user],
            "recommended": [row for row in recommended if row["user_id"] == user],
        }
        for user in ids
    ]


def _print_user(console: Console, user: Mapping[str, Any]) -> None:
    view = View(title=f"User {user['user_id']}. {user['text'] or ''}", title_justify="left", title_style="bold")
    view.add_column("recent favourites", ratio=5)
    view.add_column("rated", justify="right")
    view.add_column("recommended", ratio=5)
    view.add_column("score", justify="right")
    for favourite, item in zip_longest(user["favourites"], user["recommended"]):
        view.add_row(
            favourite["title"] if favourite else "",
            f"{favourite['value']:g}" if favourite and favourite["value"] is not None else "",
            f"{item['rank']}. {item['title']}" if item else "",
            f"{item['score']:.3f}" if item else "",
        )
    console.print(view)


def _print_metrics(console: Console, evaluation: Mapping[str, Any]) -> None:
    if "metrics" not in evaluation:  # the lists were evaluated by a release that stored no metrics in commits
        return
    scorers = {"published lists": evaluation["metrics"], **evaluation.get("baselines", {})}
    view = View(
        title=f"Metrics on items that {evaluation['users_evaluated']} users liked after run_date",
        title_justify="left",
        title_style="bold",
    )
    view.add_column("scorer")
    names = list(evaluation["metrics"])
    for name in names:
        view.add_column(name, justify="right")
    for scorer, values in scorers.items():
        view.add_row(scorer, *(f"{values.get(name, float('nan')):.4f}" for name in names))
    console.print(view)
    if (gain := evaluation.get("gain_over_recent_popularity")) is not None:
        console.print(
            f"NDCG against recent popularity: {gain['ndcg']:+.4f} ± {gain['half_interval']:.4f} (95 % interval)\n"
        )
