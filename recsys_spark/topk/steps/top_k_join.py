"""The Top-K join for DataFrames of your own: packs the items, joins them, and removes the packed files."""

import tempfile
import uuid
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import DataFrame

from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.blocks.steps.block_files import write_item_blocks
from recsys_spark.lake.plain_files import drop_blocks
from recsys_spark.runtime.task import task_slots
from recsys_spark.topk.join import join_blocks

_BLOCK_ROWS = 65_536


def top_k_join(
    profiles: DataFrame, items: DataFrame | ItemBlocks, k: int, *, scratch: str | None = None, **rules: Any
) -> DataFrame:
    """Join every user with the k items of greatest cosine.

    Items in a DataFrame are packed into files below ``scratch`` and joined at once; then the files are removed. The
    lists stay on the disks of the executors (a local checkpoint): if an executor is lost, its part of the lists is lost
    too. Write lists that are needed for long to a table. Item blocks are joined lazily, and nothing is written.

    Args:
        profiles: ``user_id, embedding`` (array<float> of any norm).
        items: ``item_id, embedding`` of the same dimension, and any of ``boost``, ``match_key``, ``quota_group``,
            ``available_from``, ``available_until``; or item blocks.
        k: list length; a user with fewer eligible items gets a shorter list.
        scratch: a folder or URI that driver and executors share; by default a local one, for ``local[*]``.
        rules: ``seen``, ``allowed``, ``rules``, ``user_block_rows`` and ``tasks`` of ``join_blocks``.

    Returns:
        ``user_id, item_id, score, rank``, as ``join_blocks``.

    Raises:
        UsageError: k < 1; the dimensions of profiles and items differ.
    """
    if isinstance(items, ItemBlocks):
        return join_blocks(profiles, items, k, **rules)
    uri = f"{scratch or tempfile.gettempdir()}/top_k_join-{uuid.uuid4().hex}"
    try:
        blocks = write_item_blocks(items, uri, _BLOCK_ROWS, tasks=task_slots(items))
        lists = join_blocks(profiles, blocks, k, **rules)
        return lists.localCheckpoint(eager=True, storageLevel=StorageLevel.DISK_ONLY)
    finally:
        drop_blocks(uri)
