"""user_profiles, item_vectors, seen items and rules → recommendations."""

from dataclasses import replace
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.errors import UsageError
from recsys_spark.explain.steps.reasons import sources, staged_with_reasons
from recsys_spark.lake.lake import Staged
from recsys_spark.lake.provenance import Provenance
from recsys_spark.profiles.profiles import with_positive_items
from recsys_spark.profiles.steps.impressions import keep_impressions
from recsys_spark.publish.steps.previous_run import FullRebuild
from recsys_spark.publish.steps.publishing import InputVersions, Report, pin_inputs, run_key, unchanged
from recsys_spark.recommend.options import TopKOptions
from recsys_spark.recommend.steps.approximate import stage_with_recall
from recsys_spark.recommend.steps.hybrid_lists import hybrid_recommendations
from recsys_spark.recommend.steps.incremental import changed_lists, last_lists
from recsys_spark.recommend.steps.item_blocks import item_blocks
from recsys_spark.recommend.steps.list_run import ListRequest, figures, list_rules, rule_tables, rules_of, with_rules
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import EVENTS, ITEM_VECTORS, RECOMMENDATIONS, USER_PROFILES
from recsys_spark.topk.interest_scorer import InterestScorer
from recsys_spark.topk.join import list_rows
from recsys_spark.topk.profile_scorer import ProfileScorer
from recsys_spark.topk.steps.join_plan import log_join_plan, tasks_for


def recommend_items(run: Run, options: TopKOptions) -> Report:
    """Publish the lists of all users that have a profile, or for the hybrid scorer a history; keep what they show."""
    _check_interests(options)
    report = (
        hybrid_recommendations(run, options) if options.scorer == "hybrid" else _recommend_by_profiles(run, options)
    )
    keep_impressions(run, options)
    return report


def _recommend_by_profiles(run: Run, options: TopKOptions) -> Report:
    inputs = pin_inputs(run, USER_PROFILES, ITEM_VECTORS, EVENTS, *rule_tables(run, options))
    provenance = Provenance.of(inputs=inputs.content_ids, run_date=options.run_date, **rules_of(options))
    key = run_key("recommend_items", provenance)
    if (done := unchanged(run, key, RECOMMENDATIONS)) is not None and not options.full:
        return done
    space = one_space(run, inputs)
    if options.dry_run:
        return {"tables": {}}
    request, blocks = ListRequest(run, inputs, options, key, provenance, space), item_blocks(run, inputs, options)
    last = last_lists(request)
    report = last if isinstance(last, FullRebuild) else changed_lists(request, last, blocks)
    return _all_lists(request, blocks, str(report)) if isinstance(report, FullRebuild) else report


def _all_lists(request: ListRequest, blocks: ItemBlocks, made: str) -> Report:
    """The join of all users with all items."""
    run, inputs, options = request.run, request.inputs, request.options
    run.progress.note(f"recommend_items: {made}")
    users = run.lake.rows(USER_PROFILES)
    tasks = tasks_for(run, options, users)
    rules = list_rules(options, blocks)
    bound = log_join_plan(run, options, blocks, users, tasks, replace(rules, nprobe=blocks.lists))
    plain = request.constant_columns | {"reasons": None}

    def stage(profiles: DataFrame, nprobe: int) -> Staged:
        scorer = InterestScorer if options.interests > 1 else ProfileScorer
        make = list_rows(
            blocks, options.k, replace(rules, nprobe=nprobe), options.user_block_rows, plain, scorer=scorer
        )
        return run.lake.stage(with_rules(run, inputs, profiles, options, tasks), RECOMMENDATIONS, make)

    profiles, recall = inputs.frame(run, USER_PROFILES), dict[str, Any]()
    if options.interests > 1:
        profiles = with_positive_items(
            profiles, sources(run, inputs, Provenance()).pairs, inputs.frame(run, ITEM_VECTORS)
        )
    if options.approximate:
        staged, recall = stage_with_recall(run, options, blocks, profiles, stage)
    else:
        staged = stage(profiles, 0)
    staged, told = staged_with_reasons(run, inputs, options, request.provenance, staged, request.constant_columns)
    report = request.publish(staged, made, recall | told)
    return report | figures(staged.notes, blocks) | {"task_memory_mb": round(bound / 1e6)}


def _check_interests(options: TopKOptions) -> None:
    """Lists of several interests are merged by score: what needs one vector, or counts along the list, cannot be."""
    if options.interests == 1:
        return
    names = [name for name in ("quota", "diversity", "approximate") if getattr(options, name)]
    names += ["scorer=hybrid"] if options.scorer == "hybrid" else []
    if names:
        raise UsageError(f"--interests does not go with --{' and --'.join(names)}: leave one of them out")


def one_space(run: Run, inputs: InputVersions) -> str:
    """Two vector spaces never meet: refused by name before anything is multiplied."""
    named = {}
    for table in (USER_PROFILES, ITEM_VECTORS):
        first, last = inputs.frame(run, table).agg(F.min("model"), F.max("model")).collect()[0]
        if first is not None and first != last:
            raise UsageError(f"table '{table.name}' mixes the vector spaces {first} and {last}: build it again")
        named[table.name] = first
    users, items = named.values()
    if users is not None and users != items:
        raise UsageError(
            f"user_profiles are in vector space {users}, item_vectors in {items}: "
            "run build_profiles again after build_item_vectors"
        )
    return str(items)
