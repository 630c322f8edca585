"""item_vectors and the rule columns of items → block files, cached until one of their inputs changes."""

from collections.abc import Callable, Mapping
from typing import Any

from pyspark.sql import DataFrame

from recsys_spark.arrays.vectors import Matrix
from recsys_spark.blocks.item_blocks import BLOCK_FORMAT, ItemBlocks
from recsys_spark.blocks.steps.block_files import drop_unused_blocks, mark_used, open_item_blocks, write_item_blocks
from recsys_spark.publish.steps.publishing import run_key
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import Table

_UNUSED_HOURS = 48

SMALL_BLOCK_ROWS = 16_384
"""Maximum number of items of a block, for tasks that hold other columns of an item besides its vector."""


def cached_blocks(
    run: Run,
    table: Table,
    source: dict[str, Any],
    block_rows: int,
    build: Callable[[], tuple[DataFrame, Matrix | None]],
    *,
    extra_columns: Mapping[str, str] | None = None,
    tasks: int | None = None,
) -> ItemBlocks:
    """Open the blocks of an earlier run with the same source and format, or write new ones.

    Args:
        run: the run that needs the blocks.
        table: the table that the run publishes. Its blocks that no run has used for two days are removed.
        source: the values that the content of the blocks depends on; their hash names the folder.
        block_rows: maximum number of items of a block.
        build: returns (items, centroids); called only if new blocks are written.
        extra_columns: as for ``write_item_blocks``.
        tasks: number of tasks that write; by default one a core.
    """
    settings = {"rows": block_rows, "extra_columns": extra_columns}
    fingerprint = run_key("blocks", source | settings).partition(":")[2]
    uri = f"{run.lake.uri}/_blocks/{table.name}/v{BLOCK_FORMAT}-{fingerprint}"
    blocks = open_item_blocks(uri)
    if blocks is None:
        items, centroids = build()
        blocks = write_item_blocks(
            items, uri, block_rows, tasks=tasks or run.cores, centroids=centroids, extra_columns=extra_columns
        )
    drop_unused_blocks(uri.rpartition("/")[0], _UNUSED_HOURS, mark_used(uri))
    return blocks
