"""Evaluate published lists: recommendations and later events → metrics."""

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.arrays.intervals import half_width
from recsys_spark.errors import InputError, UsageError
from recsys_spark.evaluate.list_metrics import (
    mean_metrics,
    paired_difference,
    popularity_lists,
    recently_popular_items,
    relevant_pairs,
    user_metrics,
)
from recsys_spark.evaluate.options import EvaluationOptions, MetricOptions
from recsys_spark.events.relevance import is_positive_event
from recsys_spark.lake.lake import Commit
from recsys_spark.lake.provenance import Outcome
from recsys_spark.publish.steps.publishing import InputVersions, Report, pin_inputs, run_key
from recsys_spark.publish.steps.scratch import materialized
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.run_date import events_before
from recsys_spark.tables.schemas import EVENTS, ITEMS, METRICS, RECOMMENDATIONS

_SCORERS = {None: "cosine", "hybrid": "hybrid", "auto": "auto", "sequential": "sequential"}
"""The name in table ``metrics``, by the scorer in the provenance of the lists."""

_RECENT = "popularity_recent"


def evaluate_recommendations(run: Run, options: EvaluationOptions) -> Report:
    """Append the metrics of the published lists to table ``metrics``, under the name of their scorer, and report them.

    Raises:
        InputError: the published lists are for another run_date.
        UsageError: they are of a scorer that has no name in table ``metrics``.
    """
    inputs = pin_inputs(run, RECOMMENDATIONS, EVENTS, ITEMS)
    key = _key(inputs, options)
    # The key names the rows of the lists: those of a published evaluation were for its run date.
    if not options.dry_run and run.lake.has_commit(METRICS, key):
        figures = dict(run.lake.outcome_of(METRICS, key).figures or {"k": options.metrics_k})
        return {"status": "unchanged", "tables": {METRICS.name: 0}} | figures
    published = inputs.frame(run, RECOMMENDATIONS)
    lists = published.where(F.col("run_date") == F.lit(options.run_date))
    if lists.isEmpty():
        stored_date = published.agg(F.max("run_date")).collect()[0][0]
        raise InputError(
            f"table 'recommendations' holds lists for run_date {stored_date}, not for {options.run_date}: "
            "run recommend_items for that date first"
        )
    if options.dry_run:
        return {"tables": {}}
    return _append_metrics(run, inputs, options, lists, inputs.frame(run, EVENTS), key)


def evaluation_of_last_lists(run: Run, options: MetricOptions) -> Report:
    """Evaluate the stored lists of an earlier day on the events from that day on and before ``run_date``.

    Their metrics are appended to table ``metrics`` once. Without such lists or events the report is empty.
    """
    report: Report = {"status": "unchanged", "tables": {}}
    last = run.lake.last_commit(RECOMMENDATIONS)
    list_date = (last.provenance.run_date if last else None) or options.run_date
    if list_date >= options.run_date:
        return report
    inputs = pin_inputs(run, RECOMMENDATIONS, EVENTS, ITEMS)
    settings = options.model_dump(include=set(MetricOptions.model_fields)) | {"run_date": list_date}
    evaluation = EvaluationOptions(**settings)
    key = _key(inputs, evaluation, until=options.run_date)
    if run.lake.has_commit(METRICS, key):
        return report
    events = events_before(inputs.frame(run, EVENTS), options.run_date)
    if events.where(F.col("timestamp") >= F.lit(str(list_date)).cast("timestamp")).isEmpty():
        return report
    report = _append_metrics(run, inputs, evaluation, inputs.frame(run, RECOMMENDATIONS), events, key)
    figures = {"run_date": str(list_date), **{name: report[name] for name in ("users_evaluated", "metrics")}}
    return {"status": report["status"], "tables": report["tables"], "evaluation": figures}


def _key(inputs: InputVersions, options: EvaluationOptions, **more: Any) -> str:
    settings = options.model_dump(mode="json", exclude={"lake", "preset"})
    settings["at"] = settings.pop("metrics_k")  # its name in the run keys of earlier releases
    return run_key("evaluate_recommendations", {"inputs": inputs.content_ids, "options": settings} | more)


def _append_metrics(
    run: Run, inputs: InputVersions, options: EvaluationOptions, lists: DataFrame, events: DataFrame, key: str
) -> Report:
    scorer, ranking = _scorer(run, lists), ranking_of_lists(run)
    scorers, last = {scorer: lists}, run.lake.last_commit(METRICS)
    repeats = bool(ranking.get("repeats"))
    pairs = relevant_pairs(events, options.run_date, options.event_weights, options.min_rating, repeats=repeats)
    with materialized(run, pairs) as relevant:
        if options.baselines:
            users = lists.join(relevant.frame, on="user_id", how="left_semi")
            scorers |= _baselines(events, users, options, _half_life(ranking), repeats)
        items = inputs.frame(run, ITEMS)
        users_of = {name: user_metrics(frame, relevant.frame, options.metrics_k) for name, frame in scorers.items()}
        rows = [_means(name, users_of[name], frame, items, options) for name, frame in scorers.items()]
        until = events.agg(F.max("timestamp").alias("until"))
        means = reduce(DataFrame.unionByName, rows).crossJoin(F.broadcast(until))
        means = means.withColumn("evaluation", F.lit(_last_number(run, last) + 1)).select(*METRICS.columns)
        staged = replace(run.lake.stage(means, METRICS), base=None if last is None else last.version)
        difference = _difference(users_of[scorer], users_of[_RECENT]) if options.baselines else {}
    metrics = run.lake.read_staged(run.spark, staged).collect()  # six rows per scorer
    figures = _report(metrics, options.metrics_k, scorer) | difference
    run.lake.commit(staged, key, append=True, exclusive=True, outcome=Outcome(figures=figures))
    return {"status": "done", "tables": {METRICS.name: staged.rows}, **figures}


def ranking_of_lists(run: Run) -> Mapping[str, Any]:
    """What the ranker of the published lists was chosen by; empty for other scorers."""
    last = run.lake.last_commit(RECOMMENDATIONS)
    return {} if last is None else last.outcome.more.get("ranking", {})


def _half_life(ranking: Mapping[str, Any]) -> float:
    """The half-life in days of the best recent popularity on the days before the run date; 30 if it is unknown."""
    prefix = "popularity_"
    figures = {name: value for name, value in ranking.get("ndcg", {}).items() if name.startswith(prefix)}
    return float(max(figures, key=lambda name: figures[name]).removeprefix(prefix)) if figures else 30.0


def _baselines(
    events: DataFrame, users: DataFrame, options: EvaluationOptions, half_life: float, repeats: bool
) -> dict[str, DataFrame]:
    day, k = options.run_date, options.metrics_k
    positive = is_positive_event(options.event_weights, options.min_rating)
    recent = recently_popular_items(events, day, positive, half_life)
    return {
        "popularity": popularity_lists(events, users, day, k, repeats=repeats),
        _RECENT: popularity_lists(events, users, day, k, popular=recent, repeats=repeats),
    }


def _difference(users: DataFrame, recent: DataFrame) -> dict[str, Any]:
    """NDCG of the lists minus that of recent popularity for the same users, with half of the 95 % interval."""
    row = paired_difference(users, recent, "ndcg").collect()[0]
    if row["mean"] is None:
        return {}
    gain = {"ndcg": round(row["mean"], 4), "half_interval": round(half_width(row["error"] or 0.0), 4)}
    return {"gain_over_recent_popularity": gain}


def _last_number(run: Run, last: Commit | None) -> int:
    """The number of the newest evaluation; 0 without a numbered one."""
    if last is None:
        return 0
    stored = run.lake.read(run.spark, METRICS, last.version)
    return int(stored.agg(F.coalesce(F.max("evaluation"), F.lit(0))).collect()[0][0])


def _means(scorer: str, users: DataFrame, lists: DataFrame, items: DataFrame, options: EvaluationOptions) -> DataFrame:
    means = mean_metrics(users, lists, items, options.metrics_k)
    constant_columns = {
        "run_date": F.lit(options.run_date),
        "scorer": F.lit(scorer),
        "k": F.lit(options.metrics_k).cast("int"),
    }
    return means.withColumns(constant_columns)


def _scorer(run: Run, lists: DataFrame) -> str:
    """The name of the scorer of the published lists.

    The column ``model`` names hybrid, ranked and sequential lists, also where another program has rewritten the table
    without its provenance.

    Raises:
        UsageError: the scorer is not in _SCORERS.
    """
    first, last = lists.select("model").first(), run.lake.last_commit(RECOMMENDATIONS)
    for prefix, name in {"hybrid": "hybrid", "auto": "auto", "sequence": "sequential"}.items():
        if first is not None and first["model"].startswith(f"{prefix}-"):
            return name
    scorer = None if last is None else last.provenance.scorer
    if scorer not in _SCORERS:
        raise UsageError(f"lists of the scorer '{scorer}' cannot be evaluated: it has no name in table 'metrics'")
    return _SCORERS[scorer]


def _report(metrics: list[Any], k: int, scorer: str) -> Report:
    by_scorer: dict[str, dict[str, float]] = {}
    for row in sorted(metrics, key=lambda row: row["metric"]):
        by_scorer.setdefault(row["scorer"], {})[f"{row['metric']}@{k}"] = round(row["value"], 4)
    users = next((row["users"] for row in metrics if row["metric"] == "hit_rate"), 0)
    baselines = {name: values for name, values in by_scorer.items() if name != scorer}
    return {"k": k, "users_evaluated": users, "metrics": by_scorer.get(scorer, {})} | (
        {"baselines": baselines} if baselines else {}
    )
