"""recommendations and later events → metrics."""

from pyspark.sql import functions as F

from recsys_spark.evaluate import mean_metrics, relevant_pairs, user_metrics
from recsys_spark.job import Run
from recsys_spark.options import EvaluationOptions
from recsys_spark.steps.publishing import Report, inputs, run_key
from recsys_spark.tables import EVENTS, ITEMS, METRICS, RECOMMENDATIONS


def evaluation(run: Run, options: EvaluationOptions) -> Report:
    """Append the metrics of the published lists to ``metrics`` and report them."""
    known = inputs(run, RECOMMENDATIONS, EVENTS, ITEMS)
    facts = {"inputs": known.versions, "options": options.model_dump(mode="json", exclude={"lake"})}
    key = run_key("evaluate_recommendations", facts)
    lists = known.frame(run, RECOMMENDATIONS).where(F.col("run_date") == F.lit(options.run_date))
    relevant = relevant_pairs(known.frame(run, EVENTS), options.run_date, options.event_weights, options.min_rating)
    per_user = user_metrics(lists, relevant, options.at)
    means = mean_metrics(per_user, lists, known.frame(run, ITEMS), options.at)
    rows = means.withColumns(
        {"run_date": F.lit(options.run_date), "scorer": F.lit("cosine"), "k": F.lit(options.at).cast("int")}
    ).select(*METRICS.columns)
    if options.dry_run:
        return {"tables": {}}
    staged = run.lake.stage(rows, METRICS)
    found = {row["metric"]: row for row in run.lake.read_staged(run.spark, staged).collect()}  # half a dozen rows
    status = "unchanged"
    if run.lake.published_by(METRICS, key) is None:
        run.lake.commit(staged, key, append=True)
        status = "done"
    users = found["hit_rate"]["users"] if "hit_rate" in found else 0
    report: Report = {"status": status, "tables": {METRICS.name: staged.rows}, "k": options.at, "users_evaluated": users}
    return report | {"metrics": {f"{name}@{options.at}": round(row["value"], 4) for name, row in sorted(found.items())}}
