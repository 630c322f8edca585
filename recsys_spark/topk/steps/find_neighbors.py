"""item_vectors → item_neighbors: the Top-K join with items on both sides."""

from recsys_spark.blocks.steps.cached_blocks import cached_blocks
from recsys_spark.errors import UsageError
from recsys_spark.lake.provenance import Provenance
from recsys_spark.publish.steps.publishing import Report, pin_inputs, publish_staged, run_key, unchanged
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import ITEM_NEIGHBORS, ITEM_VECTORS, ITEMS
from recsys_spark.topk.join import list_rows, users_with_rules
from recsys_spark.topk.lists import ListRules
from recsys_spark.topk.options import NeighborOptions
from recsys_spark.topk.rules import items_as_users, items_with_rules
from recsys_spark.topk.steps.join_plan import log_join_plan, tasks_for


def find_neighbors(run: Run, options: NeighborOptions) -> Report:
    """Publish the k items of greatest cosine for every item that has a vector."""
    ruled = options.match_on is not None or options.run_date is not None
    inputs = pin_inputs(run, ITEM_VECTORS, *([ITEMS] if ruled else []))
    settings = options.model_dump(mode="json", include={"k", "min_score"})
    if ruled:
        settings |= options.model_dump(mode="json", include={"match_on", "run_date"})
    provenance = Provenance.of(inputs=inputs.content_ids, **settings)
    key = run_key("find_neighbors", provenance)
    if (done := unchanged(run, key, ITEM_NEIGHBORS)) is not None or options.dry_run:
        return done or {"tables": {}}
    vectors, count = inputs.frame(run, ITEM_VECTORS), run.lake.rows(ITEM_VECTORS)
    spaces = [row["model"] for row in vectors.select("model").distinct().limit(2).collect()]
    if len(spaces) > 1:
        mixed = " and ".join(sorted(spaces))
        raise UsageError(f"table 'item_vectors' mixes the vector spaces {mixed}: run build_item_vectors again")
    if ruled:
        vectors = items_with_rules(vectors, inputs.frame(run, ITEMS), options.match_on, None)
    block_inputs = {"inputs": inputs.content_ids, "match_on": options.match_on}
    blocks = cached_blocks(run, ITEM_NEIGHBORS, block_inputs, options.item_block_rows, lambda: (vectors, None))
    tasks = tasks_for(run, options, count)
    rules = ListRules(options.min_score, run_date=options.run_date, keyed=options.match_on is not None)
    log_join_plan(run, options, blocks, count, tasks, rules)
    names = {"user_id": "item_id", "item_id": "neighbor_id"}
    transform = list_rows(blocks, options.k, rules, options.user_block_rows, {"model": "".join(spaces)}, names)
    staged = run.lake.stage(users_with_rules(items_as_users(vectors), None, None, tasks), ITEM_NEIGHBORS, transform)
    return publish_staged(run, key, staged, provenance) | {"items": blocks.rows}
