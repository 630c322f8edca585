"""user_profiles and item_vectors → lists by cosine: all lists, or those that changed since the last run."""

from dataclasses import replace
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.arrays.vectors import Matrix
from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.blocks.steps.cached_blocks import cached_blocks
from recsys_spark.blocks.steps.centroids import centroids, cluster_count
from recsys_spark.errors import UsageError
from recsys_spark.explain.steps.reasons import sources
from recsys_spark.lake.lake import Staged
from recsys_spark.lake.provenance import Provenance
from recsys_spark.profiles.profiles import with_positive_items
from recsys_spark.publish.steps.previous_run import FullRebuild
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.recommend.options import TopKOptions
from recsys_spark.recommend.steps.approximate import stage_with_recall
from recsys_spark.recommend.steps.incremental import changed_lists, last_lists
from recsys_spark.recommend.steps.list_request import ListRequest, task_totals
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import ITEM_VECTORS, RECOMMENDATIONS, USER_PROFILES
from recsys_spark.topk.interest_scorer import InterestScorer
from recsys_spark.topk.join import list_rows
from recsys_spark.topk.profile_scorer import ProfileScorer
from recsys_spark.topk.steps.join_plan import log_join_plan, tasks_for


def cosine_lists(run: Run, options: TopKOptions) -> Report:
    """Publish the lists of all users with a profile.

    Raises:
        UsageError: options that exclude each other, or profiles and items in different vector spaces.
    """
    _check_interests(options)
    request = ListRequest.pin(run, options, USER_PROFILES, ITEM_VECTORS)
    if (report := request.published()) is not None:
        return report
    request = request.marked(_vector_space(request))
    if options.dry_run:
        return {"tables": {}}
    items = cosine_blocks(request)
    last = last_lists(request)
    result = last if isinstance(last, FullRebuild) else changed_lists(request, last, items)
    return _all_lists(request, items, result) if isinstance(result, FullRebuild) else result


def _all_lists(request: ListRequest, items: ItemBlocks, rebuild: FullRebuild) -> Report:
    """Join all users with all items and publish their lists."""
    run, options = request.run, request.options
    run.progress.note(f"recommend_items: {rebuild}")
    users = run.lake.rows(USER_PROFILES)
    tasks, rules = tasks_for(run, options, users), request.rules(items)
    task_bytes = log_join_plan(run, request.deep_options, items, users, tasks, replace(rules, nprobe=items.clusters))
    columns = request.constant_columns | {"reasons": None, "source": None}
    scorer = InterestScorer if options.interests > 1 else ProfileScorer

    def stage(profiles: DataFrame, nprobe: int) -> Staged:
        probed = replace(rules, nprobe=nprobe)
        transform = list_rows(items, request.depth, probed, options.user_block_rows, columns, scorer=scorer)
        return run.lake.stage(request.with_user_rules(profiles, tasks), RECOMMENDATIONS, transform)

    profiles, recall = request.frame(USER_PROFILES), dict[str, Any]()
    if options.interests > 1:
        pairs = sources(run, request.inputs, Provenance()).pairs
        profiles = with_positive_items(profiles, pairs, request.frame(ITEM_VECTORS))
    if options.approximate:
        staged, recall = stage_with_recall(run, options, items, profiles, stage)
    else:
        staged = stage(profiles, 0)
    staged, fairness = request.reranked(staged)
    staged, fidelity = request.with_reasons(staged)
    report = request.publish(staged, str(rebuild), recall | fidelity | fairness)
    return report | task_totals(staged.stats, items) | {"task_memory_mb": round(task_bytes / 1e6)}


def cosine_blocks(request: ListRequest) -> ItemBlocks:
    """The item blocks that profiles are joined with, and the clusters of an approximate join."""
    run, options = request.run, request.options
    vectors, rows = request.frame(ITEM_VECTORS), run.lake.rows(ITEM_VECTORS)
    clusters = cluster_count(options.clusters, rows) if options.approximate else 0
    source = request.item_source(ITEM_VECTORS) | {"lists": [clusters, options.grouping_seed if clusters else 0]}

    def build() -> tuple[DataFrame, Matrix | None]:
        centers = centroids(vectors, clusters, rows, options.grouping_seed) if clusters else None
        return request.with_item_rules(vectors), centers

    return cached_blocks(run, RECOMMENDATIONS, source, options.item_block_rows, build)


def _check_interests(options: TopKOptions) -> None:
    """Refuse rules that depend on the whole list: lists of several interests are merged by score, which breaks them."""
    names = [name for name in ("quota", "diversity", "approximate") if getattr(options, name)]
    if options.interests > 1 and names:
        raise UsageError(
            f"--interests cannot be combined with --{' or --'.join(names)}: leave that out, or set --interests=1"
        )


def _vector_space(request: ListRequest) -> str:
    """The vector space of profiles and items.

    Raises:
        UsageError: they are in different vector spaces.
    """
    spaces = {}
    for table in (USER_PROFILES, ITEM_VECTORS):
        first, last = request.frame(table).agg(F.min("model"), F.max("model")).collect()[0]
        if first is not None and first != last:
            raise UsageError(f"table '{table.name}' mixes the vector spaces {first} and {last}: build it again")
        spaces[table.name] = first
    users, items = spaces.values()
    if users is not None and users != items:
        raise UsageError(
            f"user_profiles are in vector space {users}, item_vectors in {items}: "
            "run build_profiles again after build_item_vectors"
        )
    return str(items)
