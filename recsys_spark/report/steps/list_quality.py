"""Quality and fairness of the published lists → sections of a report."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.arrays.intervals import half_width
from recsys_spark.evaluate.kernels.metrics import coverage, gini
from recsys_spark.evaluate.list_metrics import popular_items, user_metrics
from recsys_spark.evaluate.options import MetricOptions
from recsys_spark.evaluate.steps.evaluate_recommendations import ranking_of_lists
from recsys_spark.events.relevance import is_positive_event
from recsys_spark.report.aggregates import evaluated_users, metric_slices, popularity, ranked_rows
from recsys_spark.report.charts import line_chart
from recsys_spark.report.page import Cell, Element, Figure, Note, Section, Share, TableElement
from recsys_spark.report.steps.calibration import calibration
from recsys_spark.report.steps.runs import Status, Statuses
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.sampling import hash_sample
from recsys_spark.tables.schemas import EVENTS, ITEMS, METRICS, USERS

ListMetrics = dict[str, dict[str, Any]]
"""Scorer (published lists, popularity) → slice → a row with ``users`` and metrics."""

_LISTS, _POPULARITY = "published lists", "popularity"

_METRICS = ("hit_rate", "precision", "recall", "ndcg", "mrr")

_LEAST_USERS = 10

_MAIN_METRICS = ("ndcg", "hit_rate")

_CURVE_DAYS, _TABLE_DAYS, _CURVES = 90, 5, 4

_HEAD_SHARE = 0.5

_SAMPLED_USERS = 10_000
"""Users that are evaluated. All users of a large lake would take longer than the rest of the report; the intervals show
the precision of the sample."""


def list_metrics(run: Run, options: MetricOptions, lists: DataFrame) -> ListMetrics:
    """Evaluate the published lists and popularity lists on the events on or after ``run_date``, by slices of users.

    Users are sampled by a hash of the id. Empty if no sampled user with a list has a relevant event.
    """
    events, users = run.lake.read(run.spark, EVENTS), run.lake.read_or_empty(run.spark, USERS)
    share = min(1.0, _SAMPLED_USERS / max(run.lake.rows(USERS) if run.lake.version(USERS) is not None else 0, 1))
    sampled = hash_sample("user_id", share)
    popular = popular_items(events, options.run_date)
    is_positive = is_positive_event(options.event_weights, options.min_rating)
    sample = events.where(sampled), lists.where(sampled)
    repeats = bool(ranking_of_lists(run).get("repeats"))
    users_of = evaluated_users(*sample, popular, options.run_date, is_positive, options.metrics_k, repeats=repeats)
    with persisted(users_of) as evaluated:
        if not evaluated.count():
            return {}
        relevant = evaluated.select("user_id", F.explode("relevant").alias("item_id"))
        ranked = ranked_rows(evaluated, "listed", _LISTS).unionByName(ranked_rows(evaluated, "popular", _POPULARITY))
        groups = users.select("user_id", "groups")
        attributes = evaluated.select("user_id", "events").join(groups, on="user_id", how="left")
        rows = metric_slices(user_metrics(ranked, relevant, options.metrics_k, by=["scorer"]), attributes).collect()
    return {name: {row["slice"]: row for row in rows if row["scorer"] == name} for name in (_LISTS, _POPULARITY)}


def quality(run: Run, options: MetricOptions, metrics: ListMetrics, status: Statuses) -> Section:
    """Metrics with intervals against popularity, by slices and over past runs; the last comparison of scorers."""
    elements: list[Element] = []
    if metrics:
        rows = [
            [name, slices["all"]["users"], *(_interval(slices["all"], metric) for metric in _METRICS)]
            for name, slices in metrics.items()
            if "all" in slices
        ]
        header = ("lists", "users", *(f"{metric}@{options.metrics_k}" for metric in _METRICS))
        caption = (
            f"Metrics on events on or after {options.run_date}: mean ± half of the 95 % interval over users (a sample "
            f"if there are more than {_SAMPLED_USERS:,})"
        )
        elements.append(TableElement(caption, header, rows))
        if (verdict := _verdict(metrics, options.metrics_k)) is not None:
            elements.append(verdict)
        elements.append(_slices(metrics, options.metrics_k, "history: ", "By number of earlier events of a user"))
    else:
        elements.append(Note("No relevant events on or after the run date: the lists cannot be evaluated yet."))
    past = run.lake.read_or_empty(run.spark, METRICS).where("metric IN ('ndcg', 'hit_rate')")
    elements += _past(past.where(F.col("k") == options.metrics_k).distinct().orderBy("run_date", "scorer").collect())
    last = status.newest("evaluate_models")
    if last is not None:
        elements.append(_comparison(last))
    return Section("quality", "Quality", elements)


def fairness(run: Run, options: MetricOptions, metrics: ListMetrics, lists: DataFrame) -> Section:
    """Exposure of items, and metric gaps between groups of users."""
    items, events = run.lake.read(run.spark, ITEMS), run.lake.read(run.spark, EVENTS)
    counted = popularity(items, events, lists).collect()
    size = np.array([row["items"] for row in counted])
    event_counts, list_counts = (np.array([row[name] for row in counted], np.int64) for name in ("events", "listed"))
    rows: list[list[Cell]] = [
        [name, gini(per_item), Share(coverage(per_item)), Share(_long_tail(event_counts, values, size))]
        for name, values in (("events", event_counts), ("published lists", list_counts))
        for per_item in [np.repeat(values, size)]
    ]
    elements: list[Element] = [
        TableElement(
            "Distribution over items. Gini: 0 = equal exposure, 1 = one item takes all. Long-tail share: share outside "
            "the head, the most popular items that have half of all events",
            ("of", "Gini", "coverage of items", "long-tail share"),
            rows,
        ),
        _popularity_curve(event_counts, list_counts, size),
    ]
    groups = [row for name, row in metrics.get(_LISTS, {}).items() if name.startswith("users: ")]
    if groups:
        elements.append(_slices(metrics, options.metrics_k, "users: ", "By group of users"))
        elements.append(_gaps(groups, "ndcg", f"Gaps in ndcg@{options.metrics_k}"))
        opportunity = (
            f"Equal opportunity: gaps in the share of what users chose that is listed, recall@{options.metrics_k},"
        )
        elements.append(_gaps(groups, "recall", opportunity))
    else:
        elements.append(Note("No user groups are known, or none was evaluated."))
    calibrated = calibration(run, options, lists)
    return Section("fairness", "Fairness", [*elements, calibrated] if calibrated else elements)


def _verdict(metrics: ListMetrics, at: int) -> Note | None:
    """Whether the lists or popularity have the higher mean NDCG; None if they tie or one is missing."""
    if "all" not in metrics[_POPULARITY]:
        return None
    lists, popular = (metrics[name]["all"]["ndcg"] for name in (_LISTS, _POPULARITY))
    if lists == popular:
        return None
    claim = "The lists beat popularity" if lists > popular else "Popularity beats the lists"
    return Note(f"{claim}: ndcg@{at} {max(lists, popular):.3f} against {min(lists, popular):.3f}.")


def _half_width(row: Any, metric: str) -> float:
    """Half of the 95 % interval of a mean over users (normal approximation)."""
    return half_width(row[f"{metric}_sd"] / max(row["users"], 1) ** 0.5)


def _interval(row: Any, metric: str) -> str | None:
    if row is None:
        return None
    interval = f" ± {_half_width(row, metric):.4f}" if row["users"] > 1 else " (1 user)"
    return f"{row[metric]:.4f}{interval}"


def _slices(metrics: ListMetrics, at: int, prefix: str, caption: str) -> TableElement:
    names = [name for name in metrics[_LISTS] if name.startswith(prefix)]
    order = {f"{prefix}{name}": number for number, name in enumerate(("none", "below 5", "5 to 20", "above 20"))}
    rows: list[list[Cell]] = [
        [name.removeprefix(prefix), metrics[_LISTS][name]["users"]]
        + [_interval(metrics[lists].get(name), metric) for metric in _MAIN_METRICS for lists in metrics]
        for name in sorted(names, key=lambda name: (order.get(name, 9), name))
    ]
    columns = [f"{metric}@{at}, {lists}" for metric in _MAIN_METRICS for lists in ("lists", "popularity")]
    return TableElement(caption, ("slice", "users", *columns), rows)


def _gaps(groups: Sequence[Any], metric: str, title: str) -> TableElement:
    """For each attribute the best group minus the worst, with the 95 % interval of a difference of two means.

    Small groups are left out: their standard deviation is not reliable.
    """
    rows: list[list[Cell]] = []
    groups = [row for row in groups if row["users"] >= _LEAST_USERS]
    names = [row["slice"].removeprefix("users: ") for row in groups]
    for attribute in sorted({name.partition(": ")[0] for name in names}):
        members = [row for row, name in zip(groups, names, strict=True) if name.partition(": ")[0] == attribute]
        if len(members) > 1:
            worst, best = (extreme(members, key=lambda row: row[metric]) for extreme in (min, max))
            half = (_half_width(best, metric) ** 2 + _half_width(worst, metric) ** 2) ** 0.5
            extremes = [row["slice"].removeprefix(f"users: {attribute}: ") for row in (best, worst)]
            rows.append([attribute, *extremes, f"{best[metric] - worst[metric]:.4f} ± {half:.4f}"])
    caption = f"{title} between groups of at least {_LEAST_USERS} users"
    return TableElement(caption, ("attribute", "best", "worst", "gap"), rows)


def _past(rows: Sequence[Any]) -> list[Element]:
    """A curve over the last run dates, from the newest evaluation of each, and a table of the newest dates."""
    days = sorted({row["run_date"] for row in rows})[-_CURVE_DAYS:]
    if not days:
        return []
    evaluations: dict[tuple[Any, str, int, int], dict[str, list[float]]] = {}
    for row in sorted(rows, key=lambda row: row["evaluation"] or 0):
        by = evaluations.setdefault((row["run_date"], row["scorer"], row["evaluation"] or 0, row["users"]), {})
        by.setdefault(row["metric"], []).append(row["value"])
    at, newest = rows[0]["k"], days[-_TABLE_DAYS:]
    table_rows: list[list[Cell]] = [
        [str(day), scorer, users, *(", ".join(f"{v:.4f}" for v in values.get(name, ())) for name in _MAIN_METRICS)]
        for (day, scorer, _, users), values in sorted(evaluations.items(), reverse=True)
        if day in newest
    ]
    header = ("run date", "scorer", "users", *(f"{name}@{at}" for name in _MAIN_METRICS))
    caption = f"Past evaluations: the last {len(newest)} run dates" if len(newest) > 1 else "The last evaluation"
    table = TableElement(caption, header, table_rows)
    if len(days) < 2:
        return [table]
    by_day = {
        (scorer, day): values["ndcg"][-1] for (day, scorer, *_), values in evaluations.items() if "ndcg" in values
    }
    scorers = sorted({scorer for scorer, _ in by_day})[:_CURVES]
    lines = {name: [by_day.get((name, day), float("nan")) for day in days] for name in scorers}
    alt = f"NDCG of {', '.join(scorers)} on {len(days)} run dates from {days[0]} to {days[-1]}."
    return [Figure(alt, alt, line_chart(days, lines, xlabel="run date", ylabel=f"ndcg@{at}")), table]


def _comparison(last: Status) -> TableElement:
    """The scorers of the last ``evaluate_models``, with bootstrap intervals."""
    first: Mapping[str, Any] = next(iter(last["metrics"].values()))
    names = [name for name in first if f"{name}_low" in first and name.split("@")[0] in ("hit_rate", "ndcg")]
    rows = [
        [scorer, values["users"]]
        + [f"{values[name]:.4f} ({values[f'{name}_low']:.4f} to {values[f'{name}_high']:.4f})" for name in names]
        for scorer, values in last["metrics"].items()
    ]
    return TableElement(
        f"Comparison of scorers: {last['protocol']}, 95 % bootstrap intervals", ("scorer", "users", *names), rows
    )


def _long_tail(event_counts: Any, values: Any, size: Any) -> float:
    """Share of ``values`` of the items beyond the most popular ones that have half of all events."""
    order, events = np.argsort(-event_counts, kind="stable"), event_counts * size
    before = np.cumsum(events[order]) - events[order]
    tail = before >= _HEAD_SHARE * events.sum()
    total = (values * size).sum()
    return float((values * size)[order][tail].sum() / total) if total else float("nan")


def _popularity_curve(event_counts: Any, list_counts: Any, size: Any) -> Figure:
    """Events and lists of the item at each popularity rank; ranks are spaced geometrically."""
    counts = {"events": event_counts, "lists": list_counts}
    lines = {name: np.sort(np.repeat(values, size))[::-1] for name, values in counts.items()}
    count = int(size.sum())
    ranks = sorted({min(int(rank), count) for rank in np.geomspace(1, max(count, 1), 60)})
    drawn = {name: [float(values[rank - 1]) or float("nan") for rank in ranks] for name, values in lines.items()}
    most = {name: int(values[0]) if count else 0 for name, values in lines.items()}
    alt = (
        f"Popularity curve of {count:,} items: the most popular has {most['events']:,} events, the most listed is in "
        f"{most['lists']:,} lists."
    )
    return Figure(alt, alt, line_chart(ranks, drawn, xlabel="rank of the item", ylabel="count", log=True))


@contextmanager
def persisted(frame: DataFrame) -> Iterator[DataFrame]:
    """Compute a frame once. Spark stores it, not the lake: a report does not write tables."""
    stored = frame.persist()
    try:
        yield stored
    finally:
        stored.unpersist()
