"""Published lists → exposures: the lists as they are shown with exploration."""

from pyspark.sql import functions as F

from recsys_spark.errors import UsageError
from recsys_spark.publish.steps.publishing import run_key
from recsys_spark.recommend.exploration import shown_lists
from recsys_spark.recommend.kernels.exploration import Exploration
from recsys_spark.recommend.options import ExploreOptions, TopKOptions
from recsys_spark.runtime.config import JobConfig
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import ANYONE, EXPOSURES, RECOMMENDATIONS


def check_exploration(options: TopKOptions) -> None:
    """Refuse exploration without candidates.

    Raises:
        UsageError: every item of a list is shown.
    """
    if options.explore and options.k <= options.explore_slots:
        raise UsageError(
            f"--explore needs candidates below the positions that are shown: --k={options.k} is not above "
            f"--explore_slots={options.explore_slots}; set --k={2 * options.explore_slots}, or fewer slots"
        )


def keep_exposures(run: Run, options: TopKOptions) -> None:
    """Append what is shown of the stored lists to table ``exposures``, unless it has it already.

    ``recommendations`` keeps the lists as they were scored: an incremental run starts from them, and they are the
    policy that was explored.
    """
    last = run.lake.last_commit(RECOMMENDATIONS) if options.explore and not options.dry_run else None
    if last is None:
        return
    settings = options.model_dump(mode="json", include={*ExploreOptions.model_fields} - {*JobConfig.model_fields})
    run_date = last.provenance.run_date or options.run_date
    key = run_key("exposures", {"lists": last.content_id, "run_date": run_date, **settings})
    if run.lake.has_commit(EXPOSURES, key):
        return
    # Who is unknown has no events that could be rewards.
    lists = run.lake.read(run.spark, RECOMMENDATIONS, last.version).where(F.col("user_id") != ANYONE)
    stored, base = run.lake.read_or_empty(run.spark, EXPOSURES), run.lake.last_commit(EXPOSURES)
    number = stored.agg(F.coalesce(F.max("draw"), F.lit(0))).collect()[0][0] + 1
    columns = {
        "run_date": F.lit(run_date),
        "scorer": F.lit(last.provenance.scorer or "cosine"),
        "draw": F.lit(number).cast("int"),
    }
    exploration = Exploration(options.explore, options.explore_slots, options.explore_head, options.explore_seed)
    rows = shown_lists(lists, run_date, exploration).withColumns(columns).select(*EXPOSURES.columns)
    staged = run.lake.stage(rows, EXPOSURES, base=None if base is None else base.version)
    run.lake.commit(staged, key, append=True, exclusive=True)
