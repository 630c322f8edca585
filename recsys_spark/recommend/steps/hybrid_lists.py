"""item_weights, events and rules → recommendations: lists whose scores are sums over a user's history."""

from dataclasses import asdict

from pyspark.sql import DataFrame

from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.blocks.steps.cached_blocks import cached_blocks
from recsys_spark.errors import UsageError
from recsys_spark.events.steps.check_event_types import check_event_types
from recsys_spark.events.weights import weigh_pairs
from recsys_spark.explain.steps.reasons import staged_with_reasons
from recsys_spark.hybrid.history_scorer import WEIGHT_COLUMNS, HistoryScorer, history_bytes
from recsys_spark.hybrid.sparse_histories import histories, weighted_items
from recsys_spark.lake.provenance import Provenance
from recsys_spark.publish.steps.publishing import InputVersions, Report, pin_inputs, run_key, unchanged
from recsys_spark.recommend.options import TopKOptions
from recsys_spark.recommend.steps.list_run import ListRequest, figures, list_rules, rule_tables, rules_of, with_rules
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import EVENTS, ITEM_WEIGHTS, ITEMS, RECOMMENDATIONS, USERS
from recsys_spark.topk.join import list_rows
from recsys_spark.topk.rules import items_with_rules
from recsys_spark.topk.steps.join_plan import tasks_for

_BLOCK_ROWS = 16_384


def hybrid_recommendations(run: Run, options: TopKOptions) -> Report:
    """Publish the lists of all users that have a history.

    Raises:
        UsageError: options that need vectors.
    """
    if options.approximate or options.diversity:
        name = "approximate" if options.approximate else "diversity"
        raise UsageError(
            f"--{name} compares vectors, and hybrid scores have none: leave it out, or use --scorer=cosine"
        )
    inputs = pin_inputs(run, ITEM_WEIGHTS, EVENTS, *rule_tables(run, options))
    weights, history = options.hybrid_history
    provenance = Provenance.of(
        inputs=inputs.content_ids,
        run_date=options.run_date,
        scorer="hybrid",
        weights=asdict(weights),
        history=asdict(history),
        **rules_of(options),
    )
    key = run_key("recommend_items", provenance)
    if (done := unchanged(run, key, RECOMMENDATIONS)) is not None and not options.full:
        return done
    check_event_types(run, inputs, options)
    if options.dry_run:
        return {"tables": {}}
    blocks = _weight_blocks(run, inputs, options)
    rules = list_rules(options, blocks)
    pairs = weigh_pairs(inputs.frame(run, EVENTS), options.run_date, weights, history)
    tasks = tasks_for(run, options, run.lake.rows(USERS))
    bound = history_bytes(blocks, options.k, options.user_block_rows)
    run.progress.note(f"{blocks.rows:,} items in {tasks} tasks; about {bound / 1e6:,.0f} MB of Python memory a task")
    space = f"hybrid-{key.partition(':')[2][:8]}"
    constant_columns = {"run_date": options.run_date, "model": space}
    plain = constant_columns | {"reasons": None}
    make = list_rows(blocks, options.k, rules, options.user_block_rows, plain, scorer=HistoryScorer)
    staged = run.lake.stage(with_rules(run, inputs, histories(pairs), options, tasks), RECOMMENDATIONS, make)
    staged, told = staged_with_reasons(run, inputs, options, provenance, staged, constant_columns)
    request = ListRequest(run, inputs, options, key, provenance, space)
    report = request.publish(staged, "all: hybrid weights depend on all events", told)
    return report | figures(staged.notes, blocks) | {"task_memory_mb": round(bound / 1e6)}


def _weight_blocks(run: Run, inputs: InputVersions, options: TopKOptions) -> ItemBlocks:
    quota_on = options.quota_on if options.quota else None
    tables = (ITEM_WEIGHTS, ITEMS)
    source = {
        "inputs": {table.name: inputs.content_ids.get(table.name) for table in tables},
        "rules": [options.match_on, quota_on],
    }

    def make() -> tuple[DataFrame, None]:
        weights = weighted_items(inputs.frame(run, ITEM_WEIGHTS))
        if ITEMS.name not in inputs.versions:
            return weights, None
        return items_with_rules(weights, inputs.frame(run, ITEMS), options.match_on, quota_on), None

    rows = min(options.item_block_rows, _BLOCK_ROWS)
    return cached_blocks(run, RECOMMENDATIONS, source, rows, make, carried=WEIGHT_COLUMNS)
