"""Scorers under a protocol: fitted, tuned on validation, asked for the test."""

from collections.abc import Sequence
from datetime import date
from typing import Any, Literal
from uuid import uuid4

import numpy as np
from pyarrow.fs import FileSystem, FileType
from pydantic import Field, field_validator
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.comparison import METRICS, SUMS_DDL, Contestant, Question, compared, merged
from recsys_spark.comparison_view import show_comparison
from recsys_spark.errors import InputError
from recsys_spark.job import Run
from recsys_spark.kernels.metrics import coverage, gini, interval
from recsys_spark.options import EncoderOptions, EventOptions, IngestOptions
from recsys_spark.profiles import before
from recsys_spark.protocols import FIT, VALID, Protocol, newest_events, user_rows, with_roles
from recsys_spark.steps.contestants import EASE_ITEMS, PLANS, SCORERS, Contestants, Items, Setting, read_items, start
from recsys_spark.steps.embed import embed
from recsys_spark.steps.ingest import ingest_tables
from recsys_spark.steps.model import resolve_model
from recsys_spark.steps.publishing import Report, inputs
from recsys_spark.steps.rated import rated
from recsys_spark.tables import EMBEDDINGS, EVENTS, ITEMS, USERS

_CHOSEN_BY = (METRICS.index("hit_rate"), METRICS.index("ndcg"))
"""Settings are chosen by the sum of both."""
_TEXT_ROWS = ("cosine", "cosine_whitened")
_PLAIN_ROWS = ("tfidf", "popularity")


class ComparisonOptions(IngestOptions, EncoderOptions, EventOptions):
    """A data set, a protocol and what is compared."""

    lake: str = Field("lake/evaluation", description="lake for the data set; embeddings stay for the next run")
    run_date: date = Field(date(2100, 1, 1), description="events before it are known, YYYY-MM-DD")
    protocol: Literal["leave_one_out", "temporal", "cold_items", "new_users"] = Field(
        "leave_one_out", description="how events are split; README, Evaluation"
    )
    scorers: str = Field(",".join(SCORERS), description="what is compared, separated by commas")
    at: int = Field(10, ge=1, description="the k of the metrics")
    refit: bool = Field(True, description="fit on the validation events too before the test")
    mask_seen: bool = Field(True, description="items of a user's history are no candidates")
    valid_from: date | None = Field(None, description="temporal: first day of validation; default: at 80 % of events")
    test_from: date | None = Field(None, description="temporal: first day of the test; default: at 90 % of events")
    max_history: int = Field(1000, ge=1, description="the newest events of a user that count")
    replicates: int = Field(200, ge=2, description="bootstrap samples of users, for intervals of 95 %")
    seed: int = Field(0, description="of the bootstrap, and of protocols that draw items or users")

    @field_validator("scorers")
    @classmethod
    def _known(cls, names: str) -> str:
        if unknown := sorted(set(names.split(",")) - set(SCORERS)):
            raise ValueError(f"unknown: {', '.join(unknown)}; there are {', '.join(SCORERS)}")
        return names


def comparison(run: Run, options: ComparisonOptions) -> Report:
    """Ingest and embed where that is new, compare, show a table; returns metrics by scorer."""
    model = resolve_model(options, run)
    with run.progress.step("ingest_tables"):
        tables = ingest_tables(run, options)["tables"]
    if options.dry_run:
        return {"tables": {}}
    with run.progress.step("embed_texts"):
        embed(run, options)
    known = inputs(run, ITEMS, USERS, EVENTS, EMBEDDINGS)
    with run.progress.step("read items and split events"):
        items = read_items(run, known.frame(run, ITEMS), known.frame(run, EMBEDDINGS), model.fingerprint)
        events = before(known.frame(run, EVENTS), options.run_date)
        users = _users(events, known.frame(run, USERS), items, options).persist()
        asked = users.count()
    scratch = f"{run.lake.uri}/_comparison/{uuid4().hex}"
    try:
        found = _compare(run, options, items, users, scratch)
        with run.progress.step("ratings"):
            found |= {"ratings": rated(events, items.ids, items.vectors, options.seed)}
    finally:
        filesystem, path = FileSystem.from_uri(scratch)
        if filesystem.get_file_info(path).type == FileType.Directory:
            filesystem.delete_dir(path)
        users.unpersist()
    warnings = _warnings(found["metrics"], options.at)
    show_comparison(found, options.at, warnings)
    about = {"protocol": options.protocol, "mask_seen": options.mask_seen, "refit": options.refit}
    return about | found | {"users": asked, "items": tables[ITEMS.name], "warnings": warnings, "tables": {}}


def _compare(run: Run, options: ComparisonOptions, items: Items, users: DataFrame, scratch: str) -> Report:
    names = [name for name in options.scorers.split(",") if name != "ease" or len(items.ids) <= EASE_ITEMS]
    fits = Contestants(run, items, users, FIT, f"{scratch}/valid")
    facts = fits.keep_facts()
    tuned = _tuned(run, users, fits, names, _question(options, items, facts, test=False))
    if options.refit:
        fits = Contestants(run, items, users, VALID, f"{scratch}/test")
        facts = fits.keep_facts()
    with run.progress.step("fit the chosen settings"):
        chosen = [fits.contestant(name, setting) for name, (setting, _) in tuned.items()]
    with run.progress.step("test"):
        totals = _asked(users, chosen, _question(options, items, facts, test=True))
    return {
        "metrics": {one.scorer: _metrics(total, options.at) for one, total in zip(chosen, totals["all"], strict=True)},
        "slices": {
            name: {one.scorer: _short(total, options.at) for one, total in zip(chosen, parts, strict=True)}
            for name, parts in totals.items()
            if name != "all"
        },
        "group_gaps": _gaps(totals, [one.scorer for one in chosen], options.at),
        "chosen": {name: setting for name, (setting, _) in tuned.items()},
        "validation": {name: _validation(means, options.at) for name, (_, means) in tuned.items()},
    }


def _tuned(
    run: Run, users: DataFrame, fits: Contestants, names: Sequence[str], question: Question
) -> dict[str, tuple[Setting, Any]]:
    """The best setting of each scorer on validation, and its means, by the plans of ``contestants``."""
    tuned: dict[str, tuple[Setting, Any]] = {name: (start(name), None) for name in names}
    for number in range(max(len(PLANS[name]) for name in names)):
        with run.progress.step(f"tune on validation, round {number + 1}"):
            tried = [
                fits.contestant(name, tuned[name][0] | option)
                for name in names
                for option in (PLANS[name][number : number + 1] or [[]])[0]
            ]
            totals = _asked(users, tried, question)["all"]
        for name in {one.scorer for one in tried}:
            found = [
                (one.setting, total.means[0]) for one, total in zip(tried, totals, strict=True) if one.scorer == name
            ]
            tuned[name] = max(found, key=lambda pair: sum(pair[1][metric] for metric in _CHOSEN_BY))
    return tuned


def _validation(means: Any, at: int) -> dict[str, float]:
    return {f"{METRICS[number]}@{at}": round(float(means[number]), 4) for number in _CHOSEN_BY}


def _users(events: DataFrame, users: DataFrame, items: Items, options: ComparisonOptions) -> DataFrame:
    kinds = F.create_map(*(F.lit(x) for pair in sorted(options.event_weights.items()) for x in pair))
    weight = F.signum(F.coalesce(F.try_element_at(kinds, F.col("event_type")), F.lit(0.0))).alias("weight")
    weighted = events.select("user_id", "item_id", "timestamp", weight).where("weight > 0")
    protocol = Protocol(options.protocol, options.seed, options.valid_from, options.test_from)
    if protocol.name == "temporal" and not (options.valid_from and options.test_from):
        days = weighted.agg(F.percentile_approx(F.unix_date(F.to_date("timestamp")), [0.8, 0.9])).collect()[0][0]
        valid, test = (date.fromordinal(719163 + day) for day in days)
        protocol = Protocol(protocol.name, protocol.seed, options.valid_from or valid, options.test_from or test)
    return user_rows(with_roles(newest_events(weighted, options.max_history), protocol), items.numbers, users)


def _question(options: ComparisonOptions, items: Items, facts: str, *, test: bool) -> Question:
    replicates = options.replicates if test else 0
    return Question(test, options.mask_seen, options.at, len(items.ids), facts, replicates, options.seed)


def _asked(users: DataFrame, contestants: Sequence[Contestant], question: Question) -> dict[str, list[Any]]:
    """Sums of each contestant by slice."""
    rows = users.mapInArrow(compared(contestants, question), SUMS_DDL).collect()  # tasks × contestants × slices
    totals = merged(rows, question)
    if not totals:
        raise InputError(
            "no user has both a history and something right under this protocol: more events, or another protocol"
        )
    names = sorted({name for _, name in totals})
    return {name: [totals[number, name] for number in range(len(contestants))] for name in names}


def _metrics(total: Any, at: int) -> dict[str, float]:
    found: dict[str, float] = {"users": total.users}
    for number, metric in enumerate(METRICS):
        low, high = interval(total.means[1:, number])
        values = {f"{metric}@{at}": total.means[0, number], f"{metric}@{at}_low": low, f"{metric}@{at}_high": high}
        found |= {name: round(float(value), 4) for name, value in values.items()}
    shown = {f"coverage@{at}": coverage(total.exposure), f"gini@{at}": gini(total.exposure)}
    return found | {name: round(value, 4) for name, value in shown.items()}


def _short(total: Any, at: int) -> dict[str, float]:
    """A slice: what a table shows."""
    found: dict[str, float] = {"users": total.users}
    for metric in ("hit_rate", "ndcg"):
        number = METRICS.index(metric)
        low, high = interval(total.means[1:, number]) if total.users else (np.nan, np.nan)
        values = {f"{metric}@{at}": total.means[0, number], f"{metric}@{at}_low": low, f"{metric}@{at}_high": high}
        found |= {name: round(float(value), 4) for name, value in values.items() if np.isfinite(value)}
    return found


def _gaps(totals: dict[str, list[Any]], names: Sequence[str], at: int) -> dict[str, dict[str, dict[str, float]]]:
    """For each attribute of users and each scorer, how far the groups' NDCG lie apart, with an interval.

    The interval is that of the best group less the worst, both as found, over the same replicates.
    """
    number, gaps = METRICS.index("ndcg"), dict[str, dict[str, dict[str, float]]]()
    groups = [name.removeprefix("users: ") for name in totals if name.startswith("users: ")]
    for attribute in sorted({group.partition(": ")[0] for group in groups}):
        own = [f"users: {group}" for group in groups if group.partition(": ")[0] == attribute]
        for place, scorer in enumerate(names):
            means = [totals[name][place].means[:, number] for name in own if totals[name][place].users]
            if len(means) > 1:
                ordered = sorted(means, key=lambda mean: float(mean[0]))
                apart = ordered[-1] - ordered[0]
                low, high = interval(apart[1:])
                found = {"gap": apart[0], "low": low, "high": high}
                gaps.setdefault(attribute, {})[scorer] = {
                    f"ndcg@{at}_{n}": round(float(v), 4) for n, v in found.items()
                }
    return gaps


def _warnings(metrics: dict[str, dict[str, float]], at: int) -> list[str]:
    name = f"ndcg@{at}"
    return [
        f"{text} ({metrics[text][name]:.4f}) loses to {plain} ({metrics[plain][name]:.4f}) by {name}"
        for text in _TEXT_ROWS
        for plain in _PLAIN_ROWS
        if text in metrics and plain in metrics and metrics[text][name] < metrics[plain][name]
    ]
