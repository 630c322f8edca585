"""item_weights, events and rules → lists whose scores are sums over a user's history."""

from dataclasses import asdict

from pyspark.sql import DataFrame

from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.blocks.steps.cached_blocks import SMALL_BLOCK_ROWS, cached_blocks
from recsys_spark.errors import UsageError
from recsys_spark.events.steps.check_event_types import check_event_types
from recsys_spark.events.weights import weigh_pairs
from recsys_spark.hybrid.history_scorer import WEIGHT_COLUMNS, HistoryScorer, history_bytes
from recsys_spark.hybrid.sparse_histories import histories, weighted_items
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.recommend.options import TopKOptions
from recsys_spark.recommend.steps.list_request import ListRequest, task_totals
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import EVENTS, ITEM_WEIGHTS, RECOMMENDATIONS, USERS
from recsys_spark.topk.join import list_rows
from recsys_spark.topk.steps.join_plan import tasks_for


def hybrid_lists(run: Run, options: TopKOptions) -> Report:
    """Publish the lists of all users with a history.

    Raises:
        UsageError: options that need vectors.
    """
    _check_no_vectors_needed(options)
    weights, history = options.hybrid_history
    settings = {"scorer": "hybrid", "weights": asdict(weights), "history": history.settings()}
    request = ListRequest.pin(run, options, ITEM_WEIGHTS, **settings)
    if (report := request.published()) is not None:
        return report
    check_event_types(run, request.inputs, options)
    if options.dry_run:
        return {"tables": {}}
    request = request.marked(f"hybrid-{request.key.partition(':')[2][:8]}")
    items, tasks = hybrid_blocks(request), tasks_for(run, options, run.lake.rows(USERS))
    task_bytes = history_bytes(items, request.depth, options.user_block_rows)
    run.progress.note(
        f"{items.rows:,} items in {tasks} tasks; about {task_bytes / 1e6:,.0f} MB of Python memory per task"
    )
    columns, rules = request.constant_columns | {"reasons": None, "source": None}, request.rules(items)
    transform = list_rows(items, request.depth, rules, options.user_block_rows, columns, scorer=HistoryScorer)
    users = histories(weigh_pairs(request.frame(EVENTS), options.run_date, weights, history))
    staged = run.lake.stage(request.with_user_rules(users, tasks), RECOMMENDATIONS, transform)
    staged, fairness = request.reranked(staged)
    staged, fidelity = request.with_reasons(staged)
    report = request.publish(staged, "all: hybrid weights depend on all events", fidelity | fairness)
    return report | task_totals(staged.stats, items) | {"task_memory_mb": round(task_bytes / 1e6)}


def _check_no_vectors_needed(options: TopKOptions) -> None:
    if options.interests > 1:
        raise UsageError(
            "--interests cannot be combined with --scorer=hybrid: set --interests=1, or use --scorer=cosine"
        )
    for name in ("approximate", "diversity"):
        if getattr(options, name):
            raise UsageError(
                f"--{name} compares vectors, which hybrid scores do not use: leave it out, or use --scorer=cosine"
            )


def hybrid_blocks(request: ListRequest) -> ItemBlocks:
    """The item blocks with item weights that histories are joined with."""

    def build() -> tuple[DataFrame, None]:
        return request.with_item_rules(weighted_items(request.frame(ITEM_WEIGHTS))), None

    rows = min(request.options.item_block_rows, SMALL_BLOCK_ROWS)
    source = request.item_source(ITEM_WEIGHTS)
    return cached_blocks(request.run, RECOMMENDATIONS, source, rows, build, extra_columns=WEIGHT_COLUMNS)
