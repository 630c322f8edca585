"""Outcomes of users → the effect of a treatment, or the effect that a test could find."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import InputError, QualityError
from recsys_spark.online.kernels.experiments import (
    Arm,
    Effect,
    always_valid,
    cuped,
    difference,
    minimum_detectable_effect,
    sample_ratio_p_value,
    users_needed,
)
from recsys_spark.online.kernels.off_policy import Estimate
from recsys_spark.online.lake_logs import arm_moments, assigned_arm, counted_events, positive_events
from recsys_spark.online.options import OnlineOptions
from recsys_spark.online.steps.estimates import (
    Measured,
    Metric,
    evaluated,
    evaluation_key,
    publish,
    report_of,
)
from recsys_spark.online.steps.lake_lists import unfinished_window
from recsys_spark.online.steps.log_files import LogFile, find_log, read_log, validated_log
from recsys_spark.online.terminal_tables import show_estimates
from recsys_spark.online.validation import ARMS, validated_outcomes
from recsys_spark.publish.steps.publishing import InputVersions, Report, pin_inputs
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import EVENTS, USERS


@dataclass(frozen=True)
class Outcomes:
    """``user_id, arm, metric, before``, figures about the rows, and warnings."""

    rows: DataFrame
    figures: Mapping[str, Any]
    warnings: list[str]


def ab_test(run: Run, options: OnlineOptions) -> Report:
    """Append the effect of the treatment on the users to table ``online_metrics``.

    Raises:
        UsageError: columns are missing.
        InputError: an arm has fewer than two users, or a user has several rows.
        QualityError: too many bad rows, or arms of improbable sizes.
    """
    if options.outcomes:
        file = find_log(run, "outcomes", options.outcomes)
        key = evaluation_key(options, {file.key: file.entries})
        if (report := evaluated(run, key)) is not None:
            return report
        outcomes = _of_file(run, options, file)
    else:
        inputs = pin_inputs(run, USERS, EVENTS)
        key = evaluation_key(options, inputs.content_ids)
        if (report := evaluated(run, key)) is not None:
            return report
        outcomes = _of_lake(run, options, inputs, 0.0)
        arms = assigned_arm(options.salt, options.treatment_share).alias("arm")
        outcomes = Outcomes(outcomes.rows.select("*", arms), outcomes.figures, outcomes.warnings)
    control, treatment = _two_arms(outcomes.rows)
    sizes = {name: arm.users for name, arm in zip(ARMS, (control, treatment), strict=True)}
    p_value = sample_ratio_p_value(control.users, treatment.users, options.treatment_share)
    if p_value < options.ratio_p_value:
        raise QualityError(
            f"the arms have {control.users:,} and {treatment.users:,} users; with treatment_share "
            f"{options.treatment_share:g} that has a p-value of {p_value:.2g}, below ratio_p_value "
            f"{options.ratio_p_value:g}: assignment or logging loses users of one arm, and no effect can be read from "
            "it. Find the loss; --ratio_p_value=0 evaluates anyway",
            {"arms": sizes, "sample_ratio_p_value": p_value},
        )
    figures = {"arms": sizes, "sample_ratio_p_value": p_value, **outcomes.figures}
    measured = _effects(options, control, treatment)
    return publish(
        run,
        options,
        key,
        Measured(measured.metrics, {**figures, **measured.figures}, [*outcomes.warnings, *measured.warnings]),
    )


def power(run: Run, options: OnlineOptions) -> Report:
    """Report the minimum detectable effect of a test, from the outcomes before it. No table is written.

    Raises:
        UsageError: columns are missing.
        InputError: there are fewer than four users, or all have the same metric.
        QualityError: too many bad rows.
    """
    if options.outcomes:
        outcomes = _of_file(run, options, find_log(run, "outcomes", options.outcomes))
    else:
        outcomes = _of_lake(run, options, pin_inputs(run, USERS, EVENTS), -options.window_days)
    if options.dry_run:
        return {"tables": {}}
    rows = arm_moments(outcomes.rows.withColumn("arm", F.lit(ARMS[0]))).collect()
    users = rows[0]["users"] if rows else 0
    if users < 4 or not rows[0]["variance"]:
        reason = "a test needs at least 4" if users < 4 else "all have the same metric: take a longer window"
        raise InputError(f"a test cannot be planned from the outcomes of {users} users; {reason}")
    report = report_of(options, _plan(options, _arm(rows[0]), outcomes))
    show_estimates(report)
    return {"status": "done", "tables": {}, **report}


def _of_file(run: Run, options: OnlineOptions, file: LogFile) -> Outcomes:
    arms = options.mode == "ab"
    raw = read_log(run, file, ["user_id", "metric", *(["arm"] if arms else [])], options.user_key)
    log = validated_log(file, raw, lambda rows: validated_outcomes(rows, arms=arms), options.max_bad_share)
    repeated = log.rows.groupBy("user_id").count().where("count > 1").agg(F.count("*")).collect()[0][0]
    if repeated:
        raise InputError(
            f"--outcomes={file.path}: {repeated:,} users have several rows; a user has one arm and one row, with the "
            "metric of the whole test"
        )
    figures = {"rows": log.good} | ({"bad_rows": {one.reason: one.rows for one in log.bad}} if log.bad else {})
    return Outcomes(log.rows, figures, [])


def _of_lake(run: Run, options: OnlineOptions, inputs: InputVersions, since: float) -> Outcomes:
    """The number of positive events of each user in the window that begins ``since`` days after the run date."""
    events, weights = inputs.frame(run, EVENTS), (options.event_weights, options.min_rating)
    earned = positive_events(events, options.run_date, since, since + options.window_days, *weights)
    before = positive_events(events, options.run_date, since - options.before_days, since, *weights)
    rows = counted_events(inputs.frame(run, USERS).select("user_id"), earned, before)
    return Outcomes(rows, {}, unfinished_window(events, options.run_date, since + options.window_days))


def _two_arms(outcomes: DataFrame) -> tuple[Arm, Arm]:
    rows = {row["arm"]: row for row in arm_moments(outcomes).collect()}
    small = [name for name in ARMS if name not in rows or rows[name]["users"] < 2]
    if small:
        sizes = ", ".join(f"{name} {rows[name]['users'] if name in rows else 0}" for name in ARMS)
        raise InputError(f"users of the arms: {sizes}; an effect needs at least two users in each arm")
    return _arm(rows[ARMS[0]]), _arm(rows[ARMS[1]])


def _arm(row: Any) -> Arm:
    return Arm(**{name: row[name] for name in row.asDict() if name != "arm"})


def _effects(options: OnlineOptions, control: Arm, treatment: Arm) -> Measured:
    users, level = control.users + treatment.users, options.level
    effects = {"effect": difference(control, treatment, level)}
    figures: dict[str, Any] = {"means": dict(zip(ARMS, (control.mean, treatment.mean), strict=True))}
    one, other, theta = cuped(control, treatment)
    if theta:
        effects["effect_cuped"] = difference(one, other, level)
        plain, adjusted = (
            sum(arm.variance / arm.users for arm in arms) for arms in ((control, treatment), (one, other))
        )
        figures |= {"cuped_theta": theta, "cuped_variance_share": adjusted / plain}
    effects["effect_always_valid"] = always_valid(one, other, level, options.planned_users)
    figures["p_values"] = {name: effect.p_value for name, effect in effects.items() if effect.p_value is not None}
    if control.mean:
        figures["relative_effect"] = effects["effect"].value / control.mean
    warnings = [] if effects["effect"].low is not None else ["all users of an arm have the same metric: no intervals"]
    metrics = [Metric(name, _estimate(effect), users) for name, effect in effects.items()]
    return Measured(metrics, figures, warnings)


def _estimate(effect: Effect) -> Estimate:
    return Estimate(effect.value, effect.low, effect.high)


def _plan(options: OnlineOptions, all_users: Arm, outcomes: Outcomes) -> Measured:
    users = options.users or all_users.users
    product = all_users.variance * all_users.variance_before
    correlation = all_users.covariance / product**0.5 if product else 0.0
    variances = {"": all_users.variance, "_cuped": all_users.variance * (1 - correlation**2)}
    terms = options.treatment_share, options.level, options.power
    metrics, needed = [], {}
    for name, variance in variances.items():
        effect = minimum_detectable_effect(variance, users, *terms)
        metrics.append(Metric(f"minimum_effect{name}", Estimate(effect), users))
        if all_users.mean:
            metrics.append(Metric(f"minimum_relative_effect{name}", Estimate(effect / abs(all_users.mean)), users))
            if options.effect:
                needed[f"users_needed{name}"] = users_needed(variance, options.effect * abs(all_users.mean), *terms)
    moments = {"mean": all_users.mean, "standard_deviation": all_users.variance**0.5, "correlation": correlation}
    return Measured(metrics, {"metric": moments, **needed, **outcomes.figures}, outcomes.warnings)
