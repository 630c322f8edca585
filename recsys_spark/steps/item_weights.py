"""items, events and item_vectors → item_weights."""

from dataclasses import asdict
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import InputError
from recsys_spark.item_blocks import ItemBlocks
from recsys_spark.item_features import FEATURE_COLUMNS, item_features, sample_of_users
from recsys_spark.item_weights import fit_bytes, parts_of, weight_rows
from recsys_spark.job import Run
from recsys_spark.kernels.vectors import Matrix
from recsys_spark.options import WeightOptions
from recsys_spark.profiles import weigh_pairs
from recsys_spark.steps.approximate import centroids, list_count
from recsys_spark.steps.change_log import log_changes, snapshot_change
from recsys_spark.steps.item_blocks import kept_blocks
from recsys_spark.steps.profiles import check_event_types
from recsys_spark.steps.publishing import Inputs, Report, inputs, publish_staged, run_key, unchanged
from recsys_spark.tables import EVENTS, ITEM_VECTORS, ITEM_WEIGHTS, ITEMS

_BLOCK_ROWS = 16_384


def item_weights(run: Run, options: WeightOptions, *, anew: bool = False) -> Report:
    """Publish the weights that hybrid lists are sums of; ``anew``: although they are there."""
    known = inputs(run, ITEMS, EVENTS, ITEM_VECTORS)
    facts = {
        "inputs": known.states,
        "run_date": options.run_date,
        "weights": asdict(options.weights),
        "history": asdict(options.history),
        "fit": asdict(options.weight_fit),
        "max_events": options.hybrid_max_events,
    }
    key = run_key("fit_item_weights", facts)
    if (done := unchanged(run, key, ITEM_WEIGHTS)) is not None and not anew:
        return done
    check_event_types(run, known, options)
    if options.dry_run:
        return {"tables": {}}
    blocks = _feature_blocks(run, known, options, facts)
    bound = fit_bytes(blocks, options.weight_fit)
    run.progress.note(
        f"{blocks.rows:,} items, a ridge on up to {options.hybrid_candidates} candidates each, in {len(blocks.paths)} "
        f"tasks; about {bound / 1e6:,.0f} MB of Python memory a task"
    )
    staged = run.lake.stage(parts_of(run.spark, blocks), ITEM_WEIGHTS, weight_rows(blocks, options.weight_fit))
    if not staged.rows:
        raise InputError(
            f"no item has a weight: table 'events' has no positive event before {options.run_date}; "
            "use --scorer=cosine until there are some"
        )
    without = sum(note.get("without", 0) for note in staged.notes)
    change = snapshot_change(run, staged, "all", key)
    report = publish_staged(run, key, staged, facts | {"about": change.about(options.run_date)})
    log_changes(run, key, options.run_date, [change])
    return report | {"items_without_weights": without, "fit_memory_mb": round(bound / 1e6)}


def _feature_blocks(run: Run, known: Inputs, options: WeightOptions, facts: dict[str, Any]) -> ItemBlocks:
    vectors, rows = known.frame(run, ITEM_VECTORS).select("item_id", "embedding"), run.lake.rows(ITEM_VECTORS)
    lists = list_count(None, rows) if options.hybrid_nprobe else 0

    def make() -> tuple[DataFrame, Matrix | None]:
        first = vectors.select(F.size("embedding")).first()
        pairs = weigh_pairs(known.frame(run, EVENTS), options.run_date, options.weights, options.history)
        share = options.hybrid_max_events / max(run.lake.rows(EVENTS), 1)
        positive = sample_of_users(pairs.where("weight > 0").select("user_id", "item_id"), share)
        features = item_features(known.frame(run, ITEMS), positive, vectors, first[0] if first else 1)
        return features, centroids(vectors, lists, rows, seed=0) if lists else None

    cores = run.spark.sparkContext.defaultParallelism
    tasks = max(4 * cores, -(-run.lake.rows(ITEMS) // _BLOCK_ROWS))
    return kept_blocks(run, ITEM_WEIGHTS, facts, _BLOCK_ROWS, make, carried=FEATURE_COLUMNS, tasks=tasks)
