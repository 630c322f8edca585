"""Impressions with propensities, rewards and a target policy → what the target policy would have earned."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import InputError, UsageError
from recsys_spark.lake.lake import Lake
from recsys_spark.online.kernels.off_policy import SUMS, Diagnostics, cross_fitted_means, summary
from recsys_spark.online.lake_logs import explored_log, positive_events
from recsys_spark.online.off_policy import RANKS, numbered_log, place_sums, task_sums
from recsys_spark.online.options import OnlineOptions
from recsys_spark.online.steps.estimates import Measured, Metric, evaluated, evaluation_key, publish
from recsys_spark.online.steps.lake_lists import lists_of, newest_draw, unfinished_window
from recsys_spark.online.steps.log_files import LogFile, find_log, read_log, validated_log
from recsys_spark.online.validation import validated_impressions, validated_rewards
from recsys_spark.publish.steps.publishing import Report, pin_inputs
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.sources.reader import well_formed
from recsys_spark.tables.schemas import EVENTS, EXPOSURES

_LEAST_ESS = 400
"""In simulations with planted preferences, 95 % intervals held the truth in 94 of 100 runs at an effective sample size
of 460, and in 92 at 140."""


@dataclass(frozen=True)
class ImpressionLog:
    """``user_id, rank, propensity, target_propensity, reward``, figures about the rows, and warnings."""

    rows: DataFrame
    figures: dict[str, Any]
    warnings: list[str]


def off_policy(run: Run, options: OnlineOptions) -> Report:
    """Append the estimates of the target policy to table ``online_metrics``.

    Raises:
        UsageError: columns are missing.
        InputError: there are no explored lists, or none that the target policy shows too.
        QualityError: too many bad rows.
    """
    if options.impressions:
        return _of_files(run, options, options.impressions)
    inputs, other = pin_inputs(run, EXPOSURES, EVENTS), Lake(options.other_lake) if options.other_lake else run.lake
    target = lists_of(run, other, options.run_date)
    key = evaluation_key(options, {**inputs.content_ids, "target": target.content_id})
    if (report := evaluated(run, key)) is not None:
        return report
    exposures = newest_draw(run, inputs, EXPOSURES, options.run_date, "recommend_items --explore=0.1")
    window = (options.run_date, 0.0, options.window_days, options.event_weights, options.min_rating)
    events = inputs.frame(run, EVENTS)
    rows = explored_log(exposures, target.frame, positive_events(events, *window))
    logged = exposures.agg(F.first("scorer"), F.countDistinct("user_id")).collect()[0]
    figures = {"logged_scorer": logged[0], "target_scorer": target.scorer, "users_shown": logged[1]}
    warnings = unfinished_window(events, options.run_date, options.window_days)
    return _estimated(run, options, key, ImpressionLog(rows, figures, warnings))


def _of_files(run: Run, options: OnlineOptions, path: str) -> Report:
    files = [find_log(run, "impressions", path)]
    if options.rewards:
        files.append(find_log(run, "rewards", options.rewards))
    key = evaluation_key(options, {log.key: log.entries for log in files})
    if (report := evaluated(run, key)) is not None:
        return report
    return _estimated(run, options, key, _log_of_files(run, options, *files))


def _log_of_files(run: Run, options: OnlineOptions, shown: LogFile, earned: LogFile | None = None) -> ImpressionLog:
    raw = read_log(
        run, shown, ["user_id", "propensity", "target_propensity", *(["item_id"] if earned else [])], options.user_key
    )
    has_reward = "reward" in raw.columns
    if has_reward == (earned is not None):
        both = "has a column reward, and --rewards states rewards too: leave one out"
        none = "has no column reward: add it, or name a file with user_id, item_id, reward by --rewards"
        raise UsageError(f"--impressions={shown.path} {both if has_reward else none}")
    log = validated_log(shown, raw, validated_impressions, options.max_bad_share)
    rows, bad = log.rows, {one.reason: one.rows for one in log.bad}
    if earned is not None:
        other = validated_log(
            earned,
            read_log(run, earned, ["user_id", "item_id", "reward"], options.user_key),
            validated_rewards,
            options.max_bad_share,
        )
        pairs = other.rows.groupBy("user_id", "item_id").agg(F.sum("reward").alias("reward"))
        rows = rows.drop("reward").join(pairs, on=["user_id", "item_id"], how="left")
        rows = rows.withColumn("reward", F.coalesce("reward", F.lit(0.0)))
        bad |= {one.reason: one.rows for one in other.bad}
    figures = {"rows": log.good} | ({"bad_rows": bad} if bad else {})
    return ImpressionLog(rows, figures, _without_propensity(well_formed(raw)))


def _without_propensity(raw: DataFrame) -> list[str]:
    """A warning if the target policy shows what has no propensity in the log."""
    propensity, target = (F.col(name).cast("string").try_cast("double") for name in ("propensity", "target_propensity"))
    finite = F.when(target.between(0, 1), target)
    lost = F.sum(F.when(propensity.isNull() | (propensity == 0), finite))
    row = raw.agg(lost.alias("lost"), F.sum(finite).alias("all")).collect()[0]
    if not row["lost"]:
        return []
    return [
        f"support is missing: {row['lost'] / row['all']:.1%} of what the target policy shows has no propensity above 0 "
        "in the log; these rows are left out"
    ]


def _estimated(run: Run, options: OnlineOptions, key: str, log: ImpressionLog) -> Report:
    rows = numbered_log(log.rows, options.folds)
    by_place, rewards = np.zeros((2, options.folds, RANKS)), place_sums(rows).collect()  # folds × ranks
    for row in rewards:
        by_place[:, row["fold"], row["place"]] = row["reward"], row["rows"]
    users = rows.agg(F.countDistinct("user")).collect()[0][0]
    predicted = cross_fitted_means(by_place[0], by_place[1])
    parts = task_sums(rows, predicted, options.max_weight, options.replicates, options.seed).collect()
    sums = sum(np.array(row["sums"]) for row in parts) + np.zeros((1 + options.replicates) * len(SUMS))
    sums = sums.reshape(1 + options.replicates, len(SUMS))
    if not sums[0, SUMS.index("weight")]:
        raise InputError(
            "the target policy shows no item at a place where the log shows it, so that the log says nothing about "
            "it: explore more (recommend_items --explore, --explore_head=0), or evaluate lists of the same items"
        )
    values, gains, diagnostics = summary(sums, users, options.level)
    metrics = [
        Metric(name, value, users, None if name == "logged" else diagnostics.ess) for name, value in values.items()
    ]
    metrics += [Metric(f"{name}_gain", gain, users, diagnostics.ess) for name, gain in gains.items()]
    figures = log.figures | {"impressions": int(sums[0, SUMS.index("n")])} | _figures(options, diagnostics)
    return publish(run, options, key, Measured(metrics, figures, [*log.warnings, *_warnings(users, diagnostics)]))


def _figures(options: OnlineOptions, diagnostics: Diagnostics) -> dict[str, Any]:
    share = diagnostics.mean_weight
    figures: dict[str, Any] = {"mean_weight": {"estimate": share.value, "low": share.low, "high": share.high}}
    if options.max_weight is not None:
        figures |= {
            "clipped_impressions": diagnostics.clipped_rows,
            "clipped_weight_share": diagnostics.clipped_weight,
            "bias_bound": {"ips": diagnostics.bias[0], "dr": diagnostics.bias[1]},
        }
    return figures


def _warnings(users: int, diagnostics: Diagnostics) -> list[str]:
    warnings, share = [], diagnostics.mean_weight
    if users == 1:
        warnings.append("all impressions are of one user: there are no intervals")
    if share.value is not None and share.high is not None and share.high < 1:
        warnings.append(
            f"support is missing: about {1 - share.value:.1%} of what the target policy shows can never be shown in "
            "the log; ips counts its rewards as 0, snips as those of the rest, dr as predicted"
        )
    if share.low is not None and share.low > 1:
        warnings.append(
            f"the mean weight {share.value:.3g} is above 1: the propensities are too small, or the target's "
            "probabilities too large"
        )
    if diagnostics.ess < _LEAST_ESS:
        warnings.append(
            f"the effective sample size is {diagnostics.ess:.0f} impressions; below about {_LEAST_ESS} the intervals "
            "are too narrow"
        )
    return warnings
