"""How far the categories of lists are from those of their users' histories → a table of a report."""

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.arrays.intervals import half_width
from recsys_spark.evaluate.options import MetricOptions
from recsys_spark.events.relevance import is_positive_event
from recsys_spark.fairness.groups import candidate_lists, category_names, history_shares
from recsys_spark.fairness.reranked import UserCandidates, as_listed, category_shares, list_divergence
from recsys_spark.report.page import Cell, TableElement
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.run_date import events_before
from recsys_spark.tables.sampling import hash_sample
from recsys_spark.tables.schemas import EVENTS, ITEMS, USERS

_SAMPLED_USERS = 2000


def calibration(run: Run, options: MetricOptions, lists: DataFrame) -> TableElement | None:
    """Mean divergence over sampled users who have a list and a history with categories; None without such users."""
    rows = run.lake.rows(USERS) if run.lake.version(USERS) is not None else 0
    sampled = hash_sample("user_id", min(1.0, _SAMPLED_USERS / max(rows, 1)))
    names = category_names(run.lake.read(run.spark, ITEMS))
    earlier = events_before(run.lake.read(run.spark, EVENTS), options.run_date).where(sampled)
    liked = earlier.where(is_positive_event(options.event_weights, options.min_rating))
    histories = history_shares(liked.select("user_id", "item_id").distinct(), names)
    first = lists.where(sampled & (F.col("rank") <= options.metrics_k)).drop("run_date", "model", "reasons", "source")
    empty = {"reasons": F.lit(None).cast("string"), "source": F.lit(None).cast("string")}
    traits = names.withColumn("group", F.lit(None).cast("int"))
    sample = candidate_lists(first.withColumns(empty), traits, histories).where(F.col("history").isNotNull()).toArrow()
    if not sample.num_rows:
        return None
    users = UserCandidates.of(sample.sort_by("user_id"))
    history, shares = category_shares(users)
    values = list_divergence(history, shares, as_listed(users.sizes, options.metrics_k))
    half = half_width(float(values.std(ddof=1)) / len(values) ** 0.5) if len(values) > 1 else float("nan")
    least, most = np.quantile(values, [0.1, 0.9])
    caption = (
        "Calibration: Kullback-Leibler divergence of the categories of a list from those of the user's history; 0: in "
        f"the same proportions. A sample of at most some {_SAMPLED_USERS:,} users"
    )
    row: list[Cell] = [len(values), f"{values.mean():.4f} ± {half:.4f}", float(least), float(most)]
    return TableElement(caption, ("users", "mean", "best tenth below", "worst tenth above"), [row])
