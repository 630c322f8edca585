"""Number of tasks of a Top-K join and the plan that is logged."""

from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.runtime.lifecycle import Run, _cores
from recsys_spark.topk.join import task_bytes
from recsys_spark.topk.lists import ListRules
from recsys_spark.topk.options import JoinOptions


def tasks_for(run: Run, options: JoinOptions, users: int) -> int:
    """Even tasks: a multiple of the cores, each with at most ``user_block_rows`` users."""
    cores = _cores(run)
    return options.tasks or cores * max(1, -(-users // (cores * options.user_block_rows)))


def log_join_plan(run: Run, options: JoinOptions, blocks: ItemBlocks, users: int, tasks: int, rules: ListRules) -> int:
    """Say before the start what the join multiplies and what memory a task needs, about; return the bytes."""
    most = task_bytes(blocks, options.k, min(options.user_block_rows, users), rules)
    run.progress.note(
        f"{users:,} users × {blocks.rows:,} items × {blocks.dimension} in {tasks} tasks; "
        f"about {most / 1e6:,.0f} MB of Python memory a task"
    )
    return most
