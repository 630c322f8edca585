"""Published lists → impressions: what was shown outlives the versions that showed it."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.lake.data_files import no_rows
from recsys_spark.profiles.ignored_impressions import Ignored, ignored_pairs, shown_pairs
from recsys_spark.profiles.options import FeedbackOptions, ProfileOptions
from recsys_spark.publish.changes import changed_groups
from recsys_spark.publish.steps.previous_run import Previous
from recsys_spark.publish.steps.publishing import InputVersions, run_key
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import EVENTS, IMPRESSIONS, RECOMMENDATIONS


def keep_impressions(run: Run, options: FeedbackOptions) -> None:
    """Add what the stored lists show and the table does not hold yet, once: before profiles are made, so that lists of
    a run that was killed are not forgotten, and after lists are published."""
    head = run.lake.last_commit(RECOMMENDATIONS) if options.ignored_weight and not options.dry_run else None
    if head is None:
        return
    key = run_key("impressions", {"lists": head.content_id, "run_date": head.provenance.run_date})
    if run.lake.has_commit(IMPRESSIONS, key):
        return
    shown = shown_pairs(run.lake.read(run.spark, RECOMMENDATIONS, head.version))
    # Rows of one day meet those of that day alone, however long the history is.
    days = shown.select("shown_at").distinct()
    held = run.lake.read_or_empty(run.spark, IMPRESSIONS).join(F.broadcast(days), on="shown_at", how="left_semi")
    new = shown.join(held, on=list(IMPRESSIONS.key), how="left_anti")
    run.lake.commit(run.lake.stage(new.select(*IMPRESSIONS.columns), IMPRESSIONS), key, append=True)


def ignored_settings(options: ProfileOptions) -> Ignored | None:
    """The settings of ignored impressions; None if they do not count."""
    if not options.ignored_weight:
        return None
    return Ignored(options.ignored_weight, options.ignored_days, options.ignored_lists)


def ignored_of(run: Run, inputs: InputVersions, options: ProfileOptions, redo: DataFrame | None = None) -> DataFrame:
    """``ignored_pairs`` of all users, or of those in ``redo``."""
    shown, events = inputs.frame(run, IMPRESSIONS), inputs.frame(run, EVENTS)
    return ignored_pairs(shown, events, options.run_date, _what(options), redo)


def users_with_other_ignored(run: Run, inputs: InputVersions, options: ProfileOptions, last: Previous) -> DataFrame:
    """``user_id`` of those who have passed over something else than the last run knew."""
    there = IMPRESSIONS.name in (last.commit.provenance.versions or {})
    shown = last.frame(IMPRESSIONS) if there else no_rows(run.spark, IMPRESSIONS)
    was = ignored_pairs(shown, last.frame(EVENTS), last.run_date, _what(options))
    return changed_groups(was, ignored_of(run, inputs, options), "user_id")


def _what(options: ProfileOptions) -> Ignored:
    return Ignored(options.ignored_weight, options.ignored_days, options.ignored_lists)
