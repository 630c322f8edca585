"""item_vectors and what the rules know of items → block files, kept while nothing of it changes."""

from recsys_spark.item_blocks import ItemBlocks, drop_other_blocks, open_item_blocks, write_item_blocks
from recsys_spark.job import Run
from recsys_spark.options import JoinOptions, TopKOptions
from recsys_spark.recommend import task_bytes
from recsys_spark.rules import items_with_rules
from recsys_spark.steps.approximate import centroids, list_count
from recsys_spark.steps.publishing import Inputs, run_key
from recsys_spark.tables import ITEM_VECTORS, ITEMS


def item_blocks(run: Run, known: Inputs, options: TopKOptions) -> ItemBlocks:
    """The blocks of these item vectors: those of an earlier run, or new ones. Older ones are removed."""
    vectors, lists = known.frame(run, ITEM_VECTORS), 0
    if options.approximate:
        lists = list_count(options, run.lake.rows(ITEM_VECTORS))
    facts = {
        "inputs": {table.name: known.states.get(table.name) for table in (ITEM_VECTORS, ITEMS)},
        "rules": [options.match_on, options.quota_on if options.quota else None],
        "rows": options.item_block_rows,
        "lists": [lists, options.grouping_seed if lists else 0],
    }
    uri = f"{run.lake.uri}/_blocks/{run.job}/{run_key('blocks', facts).partition(':')[2]}"
    blocks = open_item_blocks(uri)
    if blocks is None:
        frame = vectors
        if ITEMS.name in known.versions:
            quota_on = options.quota_on if options.quota else None
            frame = items_with_rules(vectors, known.frame(run, ITEMS), options.match_on, quota_on)
        groups = centroids(vectors, lists, run.lake.rows(ITEM_VECTORS), options.grouping_seed) if lists else None
        blocks = write_item_blocks(frame, uri, options.item_block_rows, tasks=_cores(run), centroids=groups)
        drop_other_blocks(uri)
    return blocks


def tasks_for(run: Run, options: JoinOptions, users: int) -> int:
    """Even tasks: a multiple of the cores, each with at most ``user_block_rows`` users."""
    cores = _cores(run)
    return options.tasks or cores * max(1, -(-users // (cores * options.user_block_rows)))


def announce(run: Run, options: JoinOptions, blocks: ItemBlocks, users: int, tasks: int) -> int:
    """Say before the start what the join multiplies and what memory a task needs at most; return the bytes."""
    rows = min(options.user_block_rows, users), min(blocks.block_rows, blocks.rows)
    most = task_bytes(blocks.dimension, options.k, *rows)
    run.progress.note(
        f"{users:,} users × {blocks.rows:,} items × {blocks.dimension} in {tasks} tasks; "
        f"at most {most / 1e6:,.0f} MB of Python memory a task"
    )
    return most


def _cores(run: Run) -> int:
    return run.spark.sparkContext.defaultParallelism
