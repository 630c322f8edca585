"""Lists of two lakes → interleaved lists; their rewards → which lake's lists users prefer."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.lake.lake import Lake
from recsys_spark.online.interleaving import mixed_lists
from recsys_spark.online.kernels.interleaving import sign_test
from recsys_spark.online.kernels.off_policy import Estimate
from recsys_spark.online.lake_logs import positive_events, team_preferences, team_rewards
from recsys_spark.online.options import OnlineOptions
from recsys_spark.online.steps.estimates import Measured, Metric, evaluated, evaluation_key, publish
from recsys_spark.online.steps.lake_lists import lists_of, newest_draw, unfinished_window
from recsys_spark.online.steps.log_files import find_log, read_log, validated_log
from recsys_spark.online.validation import validated_teams
from recsys_spark.publish.steps.publishing import Report, pin_inputs, run_key
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import EVENTS, INTERLEAVED

_COLUMNS = ("user_id", "team", "reward")


def mix(run: Run, options: OnlineOptions) -> Report:
    """Append the interleaved lists of a run date to table ``interleaved``, to be shown to the users who have a list in
    both lakes.

    Raises:
        InputError: a lake has no lists of the run date.
    """
    first, second = (lists_of(run, lake, options.run_date) for lake in (run.lake, Lake(options.other_lake or "")))
    inputs = {"a": first.content_id, "b": second.content_id}
    settings = {"slots": options.slots, "salt": options.salt, "run_date": options.run_date}
    key = run_key("interleaved", inputs | settings)
    if options.dry_run:
        return {"tables": {}}
    if run.lake.has_commit(INTERLEAVED, key):
        return {"status": "unchanged", "tables": {INTERLEAVED.name: 0}}
    stored, last = run.lake.read_or_empty(run.spark, INTERLEAVED), run.lake.last_commit(INTERLEAVED)
    number = stored.agg(F.coalesce(F.max("draw"), F.lit(0))).collect()[0][0] + 1
    lists = mixed_lists(first.frame, second.frame, options.slots, options.salt, options.run_date)
    columns = {"run_date": F.lit(options.run_date), "draw": F.lit(number).cast("int")}
    rows = lists.withColumns(columns).select(*INTERLEAVED.columns)
    staged = run.lake.stage(rows, INTERLEAVED, base=None if last is None else last.version)
    run.lake.commit(staged, key, append=True, exclusive=True)
    scorers = {"a": first.scorer, "b": second.scorer}
    return {"status": "done", "tables": {INTERLEAVED.name: staged.rows}, "mode": "mix", "scorers": scorers}


def interleave(run: Run, options: OnlineOptions) -> Report:
    """Append the preference of the users between the two teams to table ``online_metrics``.

    Raises:
        UsageError: columns are missing.
        InputError: there are no interleaved lists of the run date.
        QualityError: too many bad rows.
    """
    if options.impressions:
        file = find_log(run, "impressions", options.impressions)
        key = evaluation_key(options, {file.key: file.entries})
        if (report := evaluated(run, key)) is not None:
            return report
        log = validated_log(
            file, read_log(run, file, _COLUMNS, options.user_key), validated_teams, options.max_bad_share
        )
        bad = {"bad_rows": {one.reason: one.rows for one in log.bad}} if log.bad else {}
        return publish(run, options, key, _preference(log.rows, options.level, {"rows": log.good, **bad}, []))
    inputs = pin_inputs(run, INTERLEAVED, EVENTS)
    key = evaluation_key(options, inputs.content_ids)
    if (report := evaluated(run, key)) is not None:
        return report
    shown = newest_draw(run, inputs, INTERLEAVED, options.run_date, "evaluate_online --mode=mix")
    events, days = inputs.frame(run, EVENTS), options.window_days
    earned = positive_events(events, options.run_date, 0.0, days, options.event_weights, options.min_rating)
    warnings = unfinished_window(events, options.run_date, days)
    return publish(run, options, key, _preference(team_rewards(shown, earned), options.level, {}, warnings))


def _preference(rewards: DataFrame, level: float, figures: dict[str, object], warnings: list[str]) -> Measured:
    row = team_preferences(rewards).collect()[0]
    test = sign_test(row["first"], row["second"], level)
    figures = figures | {"prefer_a": row["first"], "prefer_b": row["second"], "ties": row["ties"]}
    if test.share is None:
        warnings = [*warnings, "no user has more rewards for one team than for the other: there is no preference yet"]
    else:
        figures["p_value"] = test.p_value
    estimate = Estimate(test.share, test.low, test.high)
    return Measured([Metric("preference_b", estimate, row["users"])], figures, warnings)
