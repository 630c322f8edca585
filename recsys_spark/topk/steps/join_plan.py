"""Number of tasks of a Top-K join, and the log line of its plan."""

from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.topk.join import task_bytes
from recsys_spark.topk.lists import ListRules
from recsys_spark.topk.options import JoinOptions


def tasks_for(run: Run, options: JoinOptions, users: int) -> int:
    """Number of tasks: a multiple of the cores, so that each task has at most ``user_block_rows`` users."""
    cores = run.cores
    return options.tasks or cores * max(1, -(-users // (cores * options.user_block_rows)))


def log_join_plan(run: Run, options: JoinOptions, blocks: ItemBlocks, users: int, tasks: int, rules: ListRules) -> int:
    """Log the size of the join and the estimated memory of a task before it starts. Return the memory in bytes."""
    memory = task_bytes(blocks, options.k, min(options.user_block_rows, users), rules)
    run.progress.note(
        f"{users:,} users × {blocks.rows:,} items × {blocks.dimension} in {tasks} tasks; "
        f"about {memory / 1e6:,.0f} MB of Python memory per task"
    )
    return memory
