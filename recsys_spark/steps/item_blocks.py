"""item_vectors and what the rules know of items → block files, kept while nothing of it changes."""

from collections.abc import Callable, Mapping
from typing import Any

from pyspark.sql import DataFrame

from recsys_spark.item_blocks import ItemBlocks, drop_unused_blocks, mark_used, open_item_blocks, write_item_blocks
from recsys_spark.job import Run
from recsys_spark.kernels.vectors import Matrix
from recsys_spark.lists import ListRules
from recsys_spark.options import JoinOptions, TopKOptions
from recsys_spark.recommend import task_bytes
from recsys_spark.rules import items_with_rules
from recsys_spark.steps.approximate import centroids, list_count
from recsys_spark.steps.publishing import InputVersions, run_key
from recsys_spark.tables import ITEM_VECTORS, ITEMS, RECOMMENDATIONS, Table

_UNUSED_HOURS = 48


def item_blocks(run: Run, inputs: InputVersions, options: TopKOptions) -> ItemBlocks:
    """The blocks that lists are made of, with what their rules ask of items."""
    vectors, rows = inputs.frame(run, ITEM_VECTORS), run.lake.rows(ITEM_VECTORS)
    lists, quota_on = 0, options.quota_on if options.quota else None
    if options.approximate:
        lists = list_count(options.lists, rows)
    facts = {
        "inputs": {table.name: inputs.content_ids.get(table.name) for table in (ITEM_VECTORS, ITEMS)},
        "rules": [options.match_on, quota_on],
        "lists": [lists, options.grouping_seed if lists else 0],
    }

    def make() -> tuple[DataFrame, Matrix | None]:
        groups = centroids(vectors, lists, rows, options.grouping_seed) if lists else None
        if ITEMS.name not in inputs.versions:
            return vectors, groups
        return items_with_rules(vectors, inputs.frame(run, ITEMS), options.match_on, quota_on), groups

    return cached_blocks(run, RECOMMENDATIONS, facts, options.item_block_rows, make)


def cached_blocks(
    run: Run,
    table: Table,
    facts: dict[str, Any],
    rows: int,
    make: Callable[[], tuple[DataFrame, Matrix | None]],
    *,
    carried: Mapping[str, str] | None = None,
    tasks: int | None = None,
) -> ItemBlocks:
    """The blocks of an earlier run with the same facts, or new ones of ``make`` (items, centroids).

    ``rows`` is the most items in one. Blocks for the same ``table`` that no run has used for two days are removed.
    """
    name = run_key("blocks", facts | {"rows": rows, "carried": carried}).partition(":")[2]
    uri = f"{run.lake.uri}/_blocks/{table.name}/{name}"
    blocks = open_item_blocks(uri)
    if blocks is None:
        frame, groups = make()
        blocks = write_item_blocks(frame, uri, rows, tasks=tasks or _cores(run), centroids=groups, carried=carried)
    drop_unused_blocks(uri.rpartition("/")[0], _UNUSED_HOURS, mark_used(uri))
    return blocks


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


def _cores(run: Run) -> int:
    return run.spark.sparkContext.defaultParallelism
