"""recommendations and later events → metrics."""

from dataclasses import replace
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import InputError
from recsys_spark.evaluate.list_metrics import mean_metrics, popularity_lists, relevant_pairs, user_metrics
from recsys_spark.evaluate.options import EvaluationOptions, JudgeOptions
from recsys_spark.lake.lake import Commit
from recsys_spark.lake.provenance import Outcome
from recsys_spark.publish.steps.publishing import InputVersions, Report, pin_inputs, run_key
from recsys_spark.publish.steps.scratch import materialized
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.run_date import events_before
from recsys_spark.tables.schemas import EVENTS, ITEMS, METRICS, RECOMMENDATIONS


def evaluate_recommendations(run: Run, options: EvaluationOptions) -> Report:
    """Append the metrics of the published lists to ``metrics``, under the name of what scored them, and report them.

    Raises:
        InputError: the published lists were made for another run_date.
    """
    inputs = pin_inputs(run, RECOMMENDATIONS, EVENTS, ITEMS)
    key = _key(inputs, options)
    published = inputs.frame(run, RECOMMENDATIONS)
    lists = published.where(F.col("run_date") == F.lit(options.run_date))
    if lists.isEmpty():
        made = published.agg(F.max("run_date")).collect()[0][0]
        raise InputError(
            f"table 'recommendations' holds lists for run_date {made}, not for {options.run_date}: "
            "run recommend_items for that date first"
        )
    if options.dry_run:
        return {"tables": {}}
    if run.lake.has_commit(METRICS, key):
        figures = dict(run.lake.outcome_of(METRICS, key).figures or {"k": options.metrics_k})
        return {"status": "unchanged", "tables": {METRICS.name: 0}} | figures
    return _judged(run, inputs, options, lists, inputs.frame(run, EVENTS), key)


def evaluation_of_last_lists(run: Run, options: JudgeOptions) -> Report:
    """The stored lists of an earlier day against the events from that day on that the run for ``run_date`` may know, in
    ``metrics`` once. Nothing where there are no such lists, or no such events."""
    report: Report = {"status": "unchanged", "tables": {}}
    head = run.lake.last_commit(RECOMMENDATIONS)
    made = (head.provenance.run_date if head else None) or options.run_date
    if made >= options.run_date:
        return report
    inputs = pin_inputs(run, RECOMMENDATIONS, EVENTS, ITEMS)
    asked = EvaluationOptions(**options.model_dump(include=set(JudgeOptions.model_fields)) | {"run_date": made})
    key = _key(inputs, asked, until=options.run_date)
    if run.lake.has_commit(METRICS, key):
        return report
    events = events_before(inputs.frame(run, EVENTS), options.run_date)
    if events.where(F.col("timestamp") >= F.lit(str(made)).cast("timestamp")).isEmpty():
        return report
    found = _judged(run, inputs, asked, inputs.frame(run, RECOMMENDATIONS), events, key)
    about = {"run_date": str(made), **{name: found[name] for name in ("users_evaluated", "metrics")}}
    return {"status": found["status"], "tables": found["tables"], "evaluation": about}


def _key(inputs: InputVersions, options: EvaluationOptions, **more: Any) -> str:
    settings = options.model_dump(mode="json", exclude={"lake"})
    settings["at"] = settings.pop("metrics_k")  # its name in the run keys of earlier releases
    return run_key("evaluate_recommendations", {"inputs": inputs.content_ids, "options": settings} | more)


def _judged(
    run: Run, inputs: InputVersions, options: EvaluationOptions, lists: DataFrame, events: DataFrame, key: str
) -> Report:
    scorer = _scorer(lists)
    scorers = {scorer: lists}
    head = run.lake.last_commit(METRICS)
    pairs = relevant_pairs(events, options.run_date, options.event_weights, options.min_rating)
    with materialized(run, pairs) as relevant:
        if options.baselines:
            judged = lists.join(relevant.frame, on="user_id", how="left_semi")
            scorers["popularity"] = popularity_lists(events, judged, options.run_date, options.metrics_k)
        items = inputs.frame(run, ITEMS)
        rows = [_means(name, frame, relevant.frame, items, options) for name, frame in scorers.items()]
        until = events.agg(F.max("timestamp").alias("until"))
        means = reduce(DataFrame.unionByName, rows).crossJoin(F.broadcast(until))
        means = means.withColumn("evaluation", F.lit(_last(run, head) + 1)).select(*METRICS.columns)
        staged = replace(run.lake.stage(means, METRICS), base=None if head is None else head.version)
    found = run.lake.read_staged(run.spark, staged).collect()  # half a dozen rows per scorer
    figures = _report(found, options.metrics_k, scorer)
    run.lake.commit(staged, key, append=True, exclusive=True, outcome=Outcome(figures=figures))
    return {"status": "done", "tables": {METRICS.name: staged.rows}, **figures}


def _last(run: Run, head: Commit | None) -> int:
    """The number of the newest evaluation, 0 where there is none that has one."""
    if head is None:
        return 0
    stored = run.lake.read(run.spark, METRICS, head.version)
    return int(stored.agg(F.coalesce(F.max("evaluation"), F.lit(0))).collect()[0][0])


def _means(
    scorer: str, lists: DataFrame, relevant: DataFrame, items: DataFrame, options: EvaluationOptions
) -> DataFrame:
    means = mean_metrics(user_metrics(lists, relevant, options.metrics_k), lists, items, options.metrics_k)
    constant_columns = {
        "run_date": F.lit(options.run_date),
        "scorer": F.lit(scorer),
        "k": F.lit(options.metrics_k).cast("int"),
    }
    return means.withColumns(constant_columns)


def _scorer(lists: DataFrame) -> str:
    """What scored the published lists: hybrid ones say so in ``model``."""
    first = lists.select("model").first()
    return "hybrid" if first is not None and first["model"].startswith("hybrid-") else "cosine"


def _report(found: list[Any], at: int, scorer: str) -> Report:
    by_scorer: dict[str, dict[str, float]] = {}
    for row in sorted(found, key=lambda row: row["metric"]):
        by_scorer.setdefault(row["scorer"], {})[f"{row['metric']}@{at}"] = round(row["value"], 4)
    users = next((row["users"] for row in found if row["metric"] == "hit_rate"), 0)
    baselines = {name: values for name, values in by_scorer.items() if name != scorer}
    return {"k": at, "users_evaluated": users, "metrics": by_scorer.get(scorer, {})} | (
        {"baselines": baselines} if baselines else {}
    )
