"""Quality, fairness, drift and a gallery of the published lists → sections of a report."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.evaluate import popularity_lists, relevant_pairs, user_metrics
from recsys_spark.job import Run
from recsys_spark.kernels.metrics import coverage, gini
from recsys_spark.options import JudgeOptions
from recsys_spark.report_charts import line_chart
from recsys_spark.report_facts import judged_slices, list_drift, popularity, stories
from recsys_spark.report_page import Block, Cell, Figure, Gallery, Note, Section, Story, TableBlock
from recsys_spark.showcase import recent_favourites, sample_users
from recsys_spark.steps.report_runs import Status, newest
from recsys_spark.tables import EVENTS, ITEMS, METRICS, RECOMMENDATIONS, USERS

_METRICS = ("hit_rate", "precision", "recall", "ndcg", "mrr")
_HEAD = 0.5
_FAVOURITES = 5
_JUDGED_USERS, _BASELINE_USERS = 10_000, 1000
"""Users whose lists are judged, and those who are offered popularity too (a thousand candidates each): for all users of
a large lake it would take longer than everything else, and the intervals say what a sample is worth."""


def judged(run: Run, options: JudgeOptions, lists: DataFrame) -> dict[str, list[Any]]:
    """Slices of the published lists and of popularity lists, each for a sample of users drawn by a hash, judged by the
    events on or after ``run_date``; empty where nothing has happened since."""
    events, users = run.lake.read(run.spark, EVENTS), run.lake.read_or_empty(run.spark, USERS)
    share = min(1.0, _JUDGED_USERS / max(run.lake.rows(USERS) if run.lake.version(USERS) is not None else 0, 1))
    drawn = F.pmod(F.xxhash64("user_id"), F.lit(1 << 20)) < int(share * (1 << 20))
    lists, own = lists.where(drawn), events.where(drawn)
    relevant = relevant_pairs(own, options.run_date, options.event_weights, options.min_rating)
    heard = lists.select("user_id").distinct().join(relevant, on="user_id", how="left_semi")
    asked = heard.orderBy(F.xxhash64("user_id"), "user_id").limit(_BASELINE_USERS)
    scorers = {"published lists": lists, "popularity": popularity_lists(events, asked, options.run_date, options.at)}
    found = {}
    for name, frame in scorers.items():
        per_user = user_metrics(frame, relevant, options.at)
        found[name] = judged_slices(per_user, own, users, options.run_date).collect()
    return found if found["published lists"] else {}


def quality(run: Run, options: JudgeOptions, found: Mapping[str, list[Any]], status: list[Status]) -> Section:
    """Against baselines with intervals, by slices, over past runs; and the last comparison of scorers."""
    blocks: list[Block] = []
    if found:
        rows = [
            [f"{name} ({_whole(slices)['users']:,} users)", *(_spread(_whole(slices), metric) for metric in _METRICS)]
            for name, slices in found.items()
        ]
        header = ("lists", *(f"{metric}@{options.at}" for metric in _METRICS))
        caption = (
            f"Against what users did on or after {options.run_date}; mean ± half of the 95 % interval over users, "
            "drawn by a hash where there are many"
        )
        blocks.append(TableBlock(caption, header, rows))
        blocks.append(_slices(found, options.at, "history: ", "By the length of the history"))
    else:
        blocks.append(Note("Nothing has happened since these lists were made: there is nothing to judge them by."))
    past = run.lake.read_or_empty(run.spark, METRICS).where("metric IN ('ndcg', 'hit_rate')")
    blocks += _past(past.orderBy("run_date", "scorer", "metric", "k").collect())
    last = newest(status, "evaluate_models")
    if last is not None:
        blocks.append(_compared(last))
    return Section("quality", "Quality", blocks)


def fairness(run: Run, options: JudgeOptions, found: Mapping[str, list[Any]], lists: DataFrame) -> Section:
    """Gaps between groups of users; how exposure lies on items."""
    items, events = run.lake.read(run.spark, ITEMS), run.lake.read(run.spark, EVENTS)
    counted = popularity(items, events, lists).collect()
    size = np.array([row["items"] for row in counted])
    had, shown = (np.array([row[name] for row in counted], np.int64) for name in ("events", "shown"))
    rows: list[list[Cell]] = [
        [name, _gini(values, size), coverage(np.repeat(values, size)), _tail(had, values, size)]
        for name, values in (("events", had), ("published lists", shown))
    ]
    blocks: list[Block] = [
        TableBlock(
            "How events and places in lists lie on items. Gini: 0 all alike, 1 one item has all. Long tail: share that "
            "goes to the items beyond those that make half of all events",
            ("what", "Gini", "share of items with any", "long-tail share"),
            rows,
        ),
        _popularity_curve(had, shown, size),
    ]
    groups = [row for row in found.get("published lists", ()) if row["slice"].startswith("users: ")]
    if groups:
        blocks.append(_slices(found, options.at, "users: ", "By group of users"))
        blocks.append(_gaps(groups, options.at))
    else:
        blocks.append(Note("No group of users is known, or none has been judged."))
    return Section("fairness", "Fairness", blocks)


def drift(run: Run, lists: DataFrame, version: int) -> Section:
    """The published lists against those of the version before."""
    if version == 0 or not run.lake.can_read(RECOMMENDATIONS, version - 1):
        return Section("drift", "Drift", [Note("There are no earlier lists in this lake to compare with.")])
    was = run.lake.read(run.spark, RECOMMENDATIONS, version - 1)
    then = was.agg(F.max("run_date")).collect()[0][0]
    row = list_drift(lists, was).collect()[0]
    told: list[list[Cell]] = [
        ["users with a list in both", row["users"]],
        ["share of a list that was in the last one", row["kept"]],
        ["users whose list has the same items", row["same"]],
        ["users who are new", row["new_users"]],
        ["users who had a list and have none", row["lost_users"]],
    ]
    caption = f"Version {version} of the lists against version {version - 1}, made for {then}"
    return Section("drift", "Drift", [TableBlock(caption, ("what", "how much"), told)])


def gallery(run: Run, lists: DataFrame, run_date: date, users: int) -> Section:
    """Some users with what they liked, what they are offered and why."""
    events, items = run.lake.read(run.spark, EVENTS), run.lake.read(run.spark, ITEMS)
    ids = [row["user_id"] for row in sample_users(lists, events, run_date, users).collect()]
    known = "with ten events or more, " if ids else ""
    if not ids:  # nobody has ten events yet: anybody with a list
        anybody = lists.where(F.col("rank") == 1).orderBy(F.xxhash64("user_id"), "user_id").limit(users)
        ids = [row["user_id"] for row in anybody.select("user_id").collect()]
    some = run.spark.createDataFrame([(user,) for user in ids], "user_id string")
    about = run.lake.read_or_empty(run.spark, USERS).join(some, on="user_id", how="left_semi").collect()
    texts = {row["user_id"]: row["text"] or "" for row in about}
    liked = recent_favourites(events, items, some, run_date, _FAVOURITES).collect()
    told = stories(lists, items, some).collect()
    shown = [
        Story(
            user,
            texts.get(user, ""),
            [row["title"] for row in liked if row["user_id"] == user],
            [_offer(row) for row in told if row["user_id"] == user],
        )
        for user in ids
    ]
    note = Note(f"{len(shown)} users, {known}picked by a hash of their id.")
    return Section("gallery", "Gallery", [note, Gallery(shown)])


def _offer(row: Any) -> tuple[int, str, float, list[str]]:
    sentences = [reason["sentence"] for reason in row["reasons"] or () if reason["kind"] != "others"]
    return row["rank"], row["title"] or row["item_id"], row["score"], sentences


def _whole(slices: Sequence[Any]) -> Any:
    return next(row for row in slices if row["slice"] == "all")


def _half(row: Any, metric: str) -> float:
    return float(1.96 * row[f"{metric}_sd"] / max(row["users"], 1) ** 0.5)


def _spread(row: Any, metric: str) -> str:
    return f"{row[metric]:.4f} ± {_half(row, metric):.4f}"


def _slices(found: Mapping[str, list[Any]], at: int, prefix: str, caption: str) -> TableBlock:
    rows = [
        [row["slice"].removeprefix(prefix), name, row["users"], _spread(row, "ndcg"), _spread(row, "hit_rate")]
        for name, slices in found.items()
        for row in slices
        if row["slice"].startswith(prefix)
    ]
    header = ("slice", "lists", "users", f"ndcg@{at}", f"hit_rate@{at}")
    return TableBlock(caption, header, sorted(rows, key=lambda row: (str(row[0]), str(row[1]))))


def _gaps(groups: Sequence[Any], at: int) -> TableBlock:
    """For each attribute the best group less the worst, with the interval of a difference of two means."""
    rows: list[list[Cell]] = []
    names = [row["slice"].removeprefix("users: ") for row in groups]
    for attribute in sorted({name.partition(": ")[0] for name in names}):
        own = [row for row, name in zip(groups, names, strict=True) if name.partition(": ")[0] == attribute]
        if len(own) > 1:
            worst, best = min(own, key=lambda row: row["ndcg"]), max(own, key=lambda row: row["ndcg"])
            half = (_half(best, "ndcg") ** 2 + _half(worst, "ndcg") ** 2) ** 0.5
            named = [row["slice"].removeprefix(f"users: {attribute}: ") for row in (best, worst)]
            rows.append([attribute, *named, f"{best['ndcg'] - worst['ndcg']:.4f} ± {half:.4f}"])
    return TableBlock(f"Gaps in ndcg@{at} between groups", ("attribute", "best", "worst", "gap"), rows)


def _past(rows: Sequence[Any]) -> list[Block]:
    if not rows:
        return []
    table = TableBlock(
        "Metrics of past evaluations",
        ("run date", "scorer", "metric", "value", "users"),
        [[str(r["run_date"]), r["scorer"], f"{r['metric']}@{r['k']}", r["value"], r["users"]] for r in rows],
    )
    ndcg = [row for row in rows if row["metric"] == "ndcg"]
    dates = sorted({row["run_date"] for row in ndcg})
    if len(dates) < 2:
        return [table]
    by = {(row["scorer"], row["run_date"]): row["value"] for row in ndcg}
    scorers = sorted({row["scorer"] for row in ndcg})[:4]
    lines = {name: [by.get((name, day), float("nan")) for day in dates] for name in scorers}
    alt = f"NDCG of {', '.join(scorers)} from {dates[0]} to {dates[-1]}; the numbers are in the table above."
    return [table, Figure("NDCG over past runs", alt, line_chart(dates, lines, xlabel="run date", ylabel="NDCG"))]


def _compared(last: Status) -> TableBlock:
    """The table of ``evaluate_models``, with its bootstrap intervals."""
    first: Mapping[str, Any] = next(iter(last["metrics"].values()))
    names = [name for name in first if f"{name}_low" in first and name.split("@")[0] in ("hit_rate", "ndcg")]
    rows = [
        [scorer, values["users"]]
        + [f"{values[name]:.4f} ({values[f'{name}_low']:.4f} to {values[f'{name}_high']:.4f})" for name in names]
        for scorer, values in last["metrics"].items()
    ]
    return TableBlock(f"Scorers compared: {last['protocol']}, 95 % by bootstrap", ("scorer", "users", *names), rows)


def _gini(values: Any, size: Any) -> float:
    return gini(np.repeat(values, size))


def _tail(had: Any, values: Any, size: Any) -> float:
    """The share of ``values`` that goes to items beyond the most popular ones that make half of all events."""
    order = np.argsort(-had, kind="stable")
    before = np.cumsum((had * size)[order]) - (had * size)[order]
    tail = before >= _HEAD * (had * size).sum()
    total = (values * size).sum()
    return float((values * size)[order][tail].sum() / total) if total else float("nan")


def _popularity_curve(had: Any, shown: Any, size: Any) -> Figure:
    """Events, and places in lists, of the item at each rank: at 1, 2, 4 … of the catalogue."""
    lines = {name: np.sort(np.repeat(v, size))[::-1] for name, v in (("events", had), ("places in lists", shown))}
    count = int(size.sum())
    ranks = sorted({min(int(rank), count) for rank in np.geomspace(1, max(count, 1), 60)})
    drawn = {name: [float(values[rank - 1]) or float("nan") for rank in ranks] for name, values in lines.items()}
    most = {name: int(values[0]) if count else 0 for name, values in lines.items()}
    alt = (
        f"Popularity curve of {count:,} items: the most popular has {most['events']:,} events, the most listed stands "
        f"in {most['places in lists']:,} lists."
    )
    return Figure(alt, alt, line_chart(ranks, drawn, xlabel="rank of the item", ylabel="how often", log=True))
