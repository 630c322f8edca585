"""The item blocks that a list run joins with."""

from pyspark.sql import DataFrame

from recsys_spark.arrays.vectors import Matrix
from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.blocks.steps.cached_blocks import cached_blocks
from recsys_spark.blocks.steps.centroids import centroids, list_count
from recsys_spark.publish.steps.publishing import InputVersions
from recsys_spark.recommend.options import TopKOptions
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import ITEM_VECTORS, ITEMS, RECOMMENDATIONS
from recsys_spark.topk.rules import items_with_rules


def item_blocks(run: Run, inputs: InputVersions, options: TopKOptions) -> ItemBlocks:
    """The blocks that lists are made of, with what their rules ask of items."""
    vectors, rows = inputs.frame(run, ITEM_VECTORS), run.lake.rows(ITEM_VECTORS)
    lists, quota_on = 0, options.quota_on if options.quota else None
    if options.approximate:
        lists = list_count(options.clusters, rows)
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
