"""Quality, fairness and a gallery of the published lists → sections of a report."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.evaluate.kernels.metrics import coverage, gini
from recsys_spark.evaluate.list_metrics import is_positive_event, popular_items, user_metrics
from recsys_spark.evaluate.options import MetricOptions
from recsys_spark.lake.lake_key import lake_key
from recsys_spark.privacy.rules import id_hash
from recsys_spark.report.aggregates import evaluated_users, metric_slices, places_of, popularity, stories
from recsys_spark.report.charts import line_chart
from recsys_spark.report.page import Block, Cell, Figure, Gallery, Note, Section, Share, Story, TableBlock
from recsys_spark.report.showcase import listed_users, recent_favourites, sample_users
from recsys_spark.report.steps.runs import Status, Statuses
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import EVENTS, ITEMS, METRICS, USERS

ListMetrics = dict[str, dict[str, Any]]
"""Published lists and popularity → slices by name → users and metrics."""

_LISTS, _POPULARITY = "published lists", "popularity"

_METRICS = ("hit_rate", "precision", "recall", "ndcg", "mrr")

_LEAST_GROUP = 10

_HEADLINE = ("ndcg", "hit_rate")

_PAST_DAYS, _PAST_ROWS, _PAST_LINES = 90, 5, 4

_HEAD = 0.5

_FAVOURITES, _CANDIDATES, _HASH = 5, 50, 8

_JUDGED_USERS = 10_000
"""Whose lists are judged: for all users of a large lake it would take longer than everything else, and the intervals
say what a sample is worth."""


def list_metrics(run: Run, options: MetricOptions, lists: DataFrame) -> ListMetrics:
    """Slices of the published lists and of popularity lists, each for a sample of users drawn by a hash, judged by the
    events on or after ``run_date``; empty where nothing has happened since."""
    events, users = run.lake.read(run.spark, EVENTS), run.lake.read_or_empty(run.spark, USERS)
    share = min(1.0, _JUDGED_USERS / max(run.lake.rows(USERS) if run.lake.version(USERS) is not None else 0, 1))
    drawn = F.pmod(F.xxhash64("user_id"), F.lit(1 << 20)) < int(share * (1 << 20))
    popular = popular_items(events, options.run_date)
    right = is_positive_event(options.event_weights, options.min_rating)
    own = events.where(drawn), lists.where(drawn)
    with _kept(evaluated_users(*own, popular, options.run_date, right, options.metrics_k)) as asked:
        if not asked.count():
            return {}
        relevant = asked.select("user_id", F.explode("relevant").alias("item_id"))
        both = places_of(asked, "listed", _LISTS).unionByName(places_of(asked, "popular", _POPULARITY))
        about = asked.select("user_id", "events").join(users.select("user_id", "groups"), on="user_id", how="left")
        rows = metric_slices(user_metrics(both, relevant, options.metrics_k, by=["scorer"]), about).collect()
    return {name: {row["slice"]: row for row in rows if row["scorer"] == name} for name in (_LISTS, _POPULARITY)}


def quality(run: Run, options: MetricOptions, found: ListMetrics, status: Statuses) -> Section:
    """Against baselines with intervals, by slices, over past runs; and the last comparison of scorers."""
    blocks: list[Block] = []
    if found:
        rows = [
            [name, slices["all"]["users"], *(_spread(slices["all"], metric) for metric in _METRICS)]
            for name, slices in found.items()
            if "all" in slices
        ]
        header = ("lists", "users", *(f"{metric}@{options.metrics_k}" for metric in _METRICS))
        caption = (
            f"Against what users did on or after {options.run_date}; mean ± half of the 95 % interval over users, "
            "drawn by a hash where there are many"
        )
        blocks.append(TableBlock(caption, header, rows))
        if (told := _verdict(found, options.metrics_k)) is not None:
            blocks.append(told)
        blocks.append(_slices(found, options.metrics_k, "history: ", "By the events that a user had before"))
    else:
        blocks.append(Note("Nothing has happened since these lists were made: there is nothing to judge them by."))
    past = run.lake.read_or_empty(run.spark, METRICS).where("metric IN ('ndcg', 'hit_rate')")
    blocks += _past(past.where(F.col("k") == options.metrics_k).distinct().orderBy("run_date", "scorer").collect())
    last = status.newest("evaluate_models")
    if last is not None:
        blocks.append(_compared(last))
    return Section("quality", "Quality", blocks)


def fairness(run: Run, options: MetricOptions, found: ListMetrics, lists: DataFrame) -> Section:
    """Gaps between groups of users; how exposure lies on items."""
    items, events = run.lake.read(run.spark, ITEMS), run.lake.read(run.spark, EVENTS)
    counted = popularity(items, events, lists).collect()
    size = np.array([row["items"] for row in counted])
    had, shown = (np.array([row[name] for row in counted], np.int64) for name in ("events", "shown"))
    rows: list[list[Cell]] = [
        [name, _gini(values, size), Share(coverage(np.repeat(values, size))), Share(_tail(had, values, size))]
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
    groups = [row for name, row in found.get(_LISTS, {}).items() if name.startswith("users: ")]
    if groups:
        blocks.append(_slices(found, options.metrics_k, "users: ", "By group of users"))
        blocks.append(_gaps(groups, options.metrics_k))
    else:
        blocks.append(Note("No group of users is known, or none has been judged."))
    return Section("fairness", "Fairness", blocks)


def gallery(run: Run, lists: DataFrame, options: MetricOptions, users: int, *, show_ids: bool) -> Section:
    """Some users with what they liked, what they are offered and why; who they are where ``show_ids``."""
    events, items = run.lake.read(run.spark, EVENTS), run.lake.read(run.spark, ITEMS)
    some = _users(run, listed_users(lists, _CANDIDATES * users).collect())
    with _kept(events.join(F.broadcast(some), on="user_id", how="left_semi")) as own:
        found = sample_users(some, own, options.run_date, users).collect()
        ids, chosen = [row["user_id"] for row in found], _users(run, found)
        liked = recent_favourites(own, items, chosen, options.run_date, _FAVOURITES).collect()
    told = stories(lists, items, chosen).collect()
    texts, key = {}, lake_key(run.lake.uri, make=True) or b""
    if show_ids:
        about = run.lake.read_or_empty(run.spark, USERS).join(chosen, on="user_id", how="left_semi")
        texts = {row["user_id"]: row["text"] for row in about.select("user_id", "text").collect()}
    people = [
        Story(
            user if show_ids else id_hash("user", user, key).rpartition(":")[2][:_HASH],
            texts.get(user) or "",
            [row["title"] for row in liked if row["user_id"] == user],
            [_offer(row) for row in told if row["user_id"] == user],
        )
        for user in ids
    ]
    named = "" if show_ids else " A user is named by the beginning of a hash, SHA-256 of user:ID."
    note = Note(f"{len(ids)} users picked by a hash, those with ten events or more first.{named}")
    return Section("gallery", "Gallery", [note, Gallery(people)])


def _users(run: Run, rows: Sequence[Any]) -> DataFrame:
    return run.spark.createDataFrame([(row["user_id"],) for row in rows], "user_id string")


def _offer(row: Any) -> tuple[int, str, float, list[tuple[Share, str]]]:
    reasons = [reason for reason in row["reasons"] or () if reason["kind"] != "others"]
    return row["rank"], row["title"], row["score"], [(Share(one["share"]), one["sentence"]) for one in reasons]


def _verdict(found: ListMetrics, at: int) -> Note | None:
    """Whether the lists or popularity came nearer, by the means over users."""
    if "all" not in found[_POPULARITY]:
        return None
    lists, popular = (found[name]["all"]["ndcg"] for name in (_LISTS, _POPULARITY))
    first, second = ("The lists", "popularity") if lists > popular else ("Popularity", "these lists")
    if lists == popular:
        return None
    return Note(
        f"{first} came nearer to what users did than {second}: ndcg@{at} {max(lists, popular):.3f} against "
        f"{min(lists, popular):.3f}."
    )


def _half(row: Any, metric: str) -> float:
    return float(1.96 * row[f"{metric}_sd"] / max(row["users"], 1) ** 0.5)


def _spread(row: Any, metric: str) -> str | None:
    if row is None:
        return None
    spread = f" ± {_half(row, metric):.4f}" if row["users"] > 1 else " (1 user)"
    return f"{row[metric]:.4f}{spread}"


def _slices(found: ListMetrics, at: int, prefix: str, caption: str) -> TableBlock:
    names = [name for name in found[_LISTS] if name.startswith(prefix)]
    order = {f"{prefix}{name}": place for place, name in enumerate(("none", "below 5", "5 to 20", "above 20"))}
    rows: list[list[Cell]] = [
        [name.removeprefix(prefix), found[_LISTS][name]["users"]]
        + [_spread(found[lists].get(name), metric) for metric in ("ndcg", "hit_rate") for lists in found]
        for name in sorted(names, key=lambda name: (order.get(name, 9), name))
    ]
    columns = [f"{metric}@{at}, {lists}" for metric in ("ndcg", "hit_rate") for lists in ("lists", "popularity")]
    return TableBlock(caption, ("slice", "users", *columns), rows)


def _gaps(groups: Sequence[Any], at: int) -> TableBlock:
    """For each attribute the best group less the worst, with the interval of a difference of two means. Of groups with
    enough users alone: of a few the spread says nothing."""
    rows: list[list[Cell]] = []
    groups = [row for row in groups if row["users"] >= _LEAST_GROUP]
    names = [row["slice"].removeprefix("users: ") for row in groups]
    for attribute in sorted({name.partition(": ")[0] for name in names}):
        own = [row for row, name in zip(groups, names, strict=True) if name.partition(": ")[0] == attribute]
        if len(own) > 1:
            worst, best = min(own, key=lambda row: row["ndcg"]), max(own, key=lambda row: row["ndcg"])
            half = (_half(best, "ndcg") ** 2 + _half(worst, "ndcg") ** 2) ** 0.5
            named = [row["slice"].removeprefix(f"users: {attribute}: ") for row in (best, worst)]
            rows.append([attribute, *named, f"{best['ndcg'] - worst['ndcg']:.4f} ± {half:.4f}"])
    caption = f"Gaps in ndcg@{at} between groups of {_LEAST_GROUP} users and more"
    return TableBlock(caption, ("attribute", "best", "worst", "gap"), rows)


def _past(rows: Sequence[Any]) -> list[Block]:
    """A curve over the last run dates, by the newest evaluation of each, and all evaluations of the newest dates in
    numbers."""
    days = sorted({row["run_date"] for row in rows})[-_PAST_DAYS:]
    if not days:
        return []
    found: dict[tuple[Any, str, int, int], dict[str, list[float]]] = {}
    for row in sorted(rows, key=lambda row: row["evaluation"] or 0):
        by = found.setdefault((row["run_date"], row["scorer"], row["evaluation"] or 0, row["users"]), {})
        by.setdefault(row["metric"], []).append(row["value"])
    at, newest = rows[0]["k"], days[-_PAST_ROWS:]
    told: list[list[Cell]] = [
        [str(day), scorer, users, *(", ".join(f"{v:.4f}" for v in values.get(name, ())) for name in _HEADLINE)]
        for (day, scorer, _, users), values in sorted(found.items(), reverse=True)
        if day in newest
    ]
    header = ("run date", "scorer", "users", *(f"{name}@{at}" for name in _HEADLINE))
    caption = f"Past evaluations, of the last {len(newest)} run dates" if len(newest) > 1 else "The last evaluation"
    table = TableBlock(caption, header, told)
    if len(days) < 2:
        return [table]
    by_day = {(scorer, day): values["ndcg"][-1] for (day, scorer, *_), values in found.items() if "ndcg" in values}
    scorers = sorted({scorer for scorer, _ in by_day})[:_PAST_LINES]
    lines = {name: [by_day.get((name, day), float("nan")) for day in days] for name in scorers}
    alt = f"NDCG of {', '.join(scorers)} on {len(days)} run dates from {days[0]} to {days[-1]}."
    return [Figure(alt, alt, line_chart(days, lines, xlabel="run date", ylabel=f"ndcg@{at}")), table]


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


@contextmanager
def _kept(frame: DataFrame) -> Iterator[DataFrame]:
    """A frame that is computed once, without writing to the lake: a report only reads."""
    held = frame.persist()
    try:
        yield held
    finally:
        held.unpersist()
