"""Published lists → impressions, which outlive the versions of the lists."""

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
    """Append the items of the stored lists to table ``impressions``, unless it has them already.

    This is done after lists are published and again before profiles are built, since a run may be killed in between.
    """
    last = run.lake.last_commit(RECOMMENDATIONS) if options.ignored_weight and not options.dry_run else None
    if last is None:
        return
    key = run_key("impressions", {"lists": last.content_id, "run_date": last.provenance.run_date})
    if run.lake.has_commit(IMPRESSIONS, key):
        return
    shown = shown_pairs(run.lake.read(run.spark, RECOMMENDATIONS, last.version))
    # Only stored rows of the same days are joined, however many days the table has.
    days = shown.select("shown_at").distinct()
    stored = run.lake.read_or_empty(run.spark, IMPRESSIONS).join(F.broadcast(days), on="shown_at", how="left_semi")
    new = shown.join(stored, on=list(IMPRESSIONS.key), how="left_anti")
    run.lake.commit(run.lake.stage(new.select(*IMPRESSIONS.columns), IMPRESSIONS), key, append=True)


def ignored_settings(options: ProfileOptions) -> Ignored | None:
    """The settings of ignored impressions; None if they do not count."""
    if not options.ignored_weight:
        return None
    return Ignored(options.ignored_weight, options.ignored_days, options.ignored_lists)


def ignored_of(run: Run, inputs: InputVersions, options: ProfileOptions, only: DataFrame | None = None) -> DataFrame:
    """``ignored_pairs`` of all users, or only of those in ``only``."""
    shown, events = inputs.frame(run, IMPRESSIONS), inputs.frame(run, EVENTS)
    return ignored_pairs(shown, events, options.run_date, _ignored(options), only)


def users_with_other_ignored(run: Run, inputs: InputVersions, options: ProfileOptions, last: Previous) -> DataFrame:
    """``user_id`` of users whose ignored impressions have changed since the last run."""
    was_read = IMPRESSIONS.name in (last.commit.provenance.versions or {})
    shown = last.frame(IMPRESSIONS) if was_read else no_rows(run.spark, IMPRESSIONS)
    old = ignored_pairs(shown, last.frame(EVENTS), last.run_date, _ignored(options))
    return changed_groups(old, ignored_of(run, inputs, options), "user_id")


def _ignored(options: ProfileOptions) -> Ignored:
    return Ignored(options.ignored_weight, options.ignored_days, options.ignored_lists)
