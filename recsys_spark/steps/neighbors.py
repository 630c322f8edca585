"""item_vectors → item_neighbors: the same join with items on both sides."""

from recsys_spark.errors import UsageError
from recsys_spark.job import Run
from recsys_spark.lists import ListRules
from recsys_spark.options import NeighborOptions
from recsys_spark.recommend import list_rows, users_with_rules
from recsys_spark.rules import items_as_users
from recsys_spark.steps.item_blocks import announce, kept_blocks, tasks_for
from recsys_spark.steps.publishing import Report, inputs, publish_staged, run_key, unchanged
from recsys_spark.tables import ITEM_NEIGHBORS, ITEM_VECTORS


def neighbors(run: Run, options: NeighborOptions) -> Report:
    """Publish the most similar items of every item that has a vector."""
    known = inputs(run, ITEM_VECTORS)
    facts = {"inputs": known.states, "k": options.k, "min_score": options.min_score}
    key = run_key("find_neighbors", facts)
    if (done := unchanged(run, key, ITEM_NEIGHBORS)) is not None or options.dry_run:
        return done or {"tables": {}}
    vectors, count = known.frame(run, ITEM_VECTORS), run.lake.rows(ITEM_VECTORS)
    spaces = [row["model"] for row in vectors.select("model").distinct().limit(2).collect()]
    if len(spaces) > 1:
        raise UsageError(f"table 'item_vectors' mixes the vector spaces {' and '.join(sorted(spaces))}: build it again")
    blocks = kept_blocks(run, ITEM_NEIGHBORS, dict(known.states), options.item_block_rows, lambda: (vectors, None))
    tasks, rules = tasks_for(run, options, count), ListRules(min_score=options.min_score)
    announce(run, options, blocks, count, tasks, rules)
    names = {"user_id": "item_id", "item_id": "neighbor_id"}
    make = list_rows(blocks, options.k, rules, options.user_block_rows, {"model": "".join(spaces)}, names)
    staged = run.lake.stage(users_with_rules(items_as_users(vectors), None, None, tasks), ITEM_NEIGHBORS, make)
    return publish_staged(run, key, staged, facts) | {"items": blocks.rows}
