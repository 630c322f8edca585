"""item_vectors and what the rules know of items → block files, kept while nothing of it changes."""

from collections.abc import Callable, Mapping
from typing import Any

from pyspark.sql import DataFrame

from recsys_spark.arrays.vectors import Matrix
from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.blocks.steps.block_files import drop_unused_blocks, mark_used, open_item_blocks, write_item_blocks
from recsys_spark.publish.steps.publishing import run_key
from recsys_spark.runtime.lifecycle import Run, _cores
from recsys_spark.tables.schemas import Table

_UNUSED_HOURS = 48


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
