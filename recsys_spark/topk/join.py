"""Blockwise Top-K join of user profiles with item blocks by cosine; list rules apply before the cut at k."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.arrays.arrow import SLICE_BYTES, slices
from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.errors import UsageError
from recsys_spark.profiles.kernels.interests import CLUSTERED
from recsys_spark.runtime.task import PYTHON_BYTES, task_slots
from recsys_spark.tables.task_stream import ArrowTransform, TaskStats, with_constant_columns
from recsys_spark.topk.interest_scorer import USERS_AT_ONCE as INTERESTS_AT_ONCE
from recsys_spark.topk.kernels.cpu_product import cpu_tiles
from recsys_spark.topk.lists import EXAMPLE_COLUMNS, HISTORY_COLUMNS, POSITIVE_COLUMNS, RANKING_COLUMNS, ListRules
from recsys_spark.topk.profile_scorer import DIVERSIFIED_AT_ONCE, ProfileScorer, candidates
from recsys_spark.topk.scorer import ScorerFactory

_SEEN_BYTES = 100 * 100
"""Bytes of a user's seen items in a task: 100 items, with ids of 36 characters in the order of arrival and sorted."""

RESULT_DDL = "user_id string, item_id string, score float, rank int"

USER_COLUMNS = {
    "seen": "array<string>",
    "allowed": "array<string>",
    "match_key": "string",
    "stratum": "int",  # of the users that recall is measured on
    "floor": "float",  # lower scores are not listed for this user
    "rule_atoms": "array<bigint>",  # of the rules of a rule base
}
"""User columns that rules read; all may be null."""


def join_blocks(
    profiles: DataFrame,
    items: ItemBlocks,
    k: int,
    *,
    seen: DataFrame | None = None,
    allowed: DataFrame | None = None,
    rules: ListRules = ListRules(),  # noqa: B008  (frozen)
    user_block_rows: int = 16_384,
    tasks: int | None = None,
) -> DataFrame:
    """Join every user with the k eligible items of greatest score: rules apply before the cut.

    Args:
        profiles: ``user_id, embedding`` (array<float> of any norm; vectors without a direction are left out), with
            ``rules.keyed`` ``match_key``, and optionally ``floor``.
        items: blocks of the same dimension.
        k: list length; a user with fewer eligible items gets a shorter list.
        seen: ``user_id, item_id`` pairs that must not be listed: seen before, or denied.
        allowed: ``user_id, item_id``; users of this table are listed nothing else.
        rules: rules of every list.
        user_block_rows: number of users that a task scores at once (see ``task_bytes``). It does not change the result.
        tasks: number of user partitions; by default twice the cores. 0 keeps the partitions of ``profiles``: with few
            items, a shuffle of profiles costs more than the products.

    Returns:
        ``user_id, item_id, score, rank``: ranks start at 1, in the order of score descending, then item_id ascending.
        A score is the cosine (plus boost), computed in float64 from float32 unit vectors and rounded to float32.

    Raises:
        UsageError: k < 1; in a task: the dimensions of profiles and items differ.
    """
    transform = list_rows(items, k, rules, user_block_rows)
    # The session is reached through the DataFrame: the number of cores changes the time, but not the result.
    tasks = 2 * task_slots(profiles) if tasks is None else tasks
    users = users_with_rules(profiles, seen, allowed, tasks)
    return users.mapInArrow(lambda batches: transform(batches, {}), RESULT_DDL)


def users_with_rules(profiles: DataFrame, seen: DataFrame | None, allowed: DataFrame | None, tasks: int) -> DataFrame:
    """Add USER_COLUMNS to profiles or histories for ``list_rows``, in ``tasks`` partitions (0: as they are)."""
    names = ("embedding", *HISTORY_COLUMNS, *POSITIVE_COLUMNS, *RANKING_COLUMNS, *EXAMPLE_COLUMNS)
    scored = [name for name in names if name in profiles.columns]
    for name, pairs in (("seen", seen), ("allowed", allowed)):
        if pairs is not None:
            lists = pairs.groupBy("user_id").agg(F.collect_set("item_id").alias(name))
            profiles = profiles.join(lists, on="user_id", how="left")
    absent = {n: F.lit(None).cast(kind) for n, kind in USER_COLUMNS.items() if n not in profiles.columns}
    users = profiles.withColumns(absent) if absent else profiles
    users = users.select("user_id", *scored, *USER_COLUMNS)
    return users if not tasks else users.repartition(tasks, "user_id")


def task_bytes(items: ItemBlocks, k: int, user_rows: int, rules: ListRules = ListRules()) -> int:  # noqa: B008
    """Estimate the peak memory of a task's Python process in bytes.

    It grows with block sizes and k, not with the number of users or items. It is the sum of: the interpreter and its
    libraries; the vectors of the user batch as they arrive and at unit length; one item block, and a second copy each
    for boosts and for availability; the lists, their order and their item ids; 100 seen items of each user; one tile of
    products and its shortlist; with diversity, the vectors of the candidates of some users; with interests, the vectors
    of the positive items of some users.
    """
    seen = min(3 * SLICE_BYTES, user_rows * _SEEN_BYTES)
    k, user_rows = candidates(k, rules), user_rows * rules.interests
    item_rows, routed = min(items.block_rows, items.rows), bool(rules.nprobe) or rules.keyed
    users = user_rows * (8 * items.dimension + 40)
    lists = user_rows * k * 80
    block = item_rows * (4 * items.dimension + 64) * (1 + rules.boosts + items.dated)
    tiles = cpu_tiles()  # of the driver: executors are taken to have the same CPU
    rows = min(tiles.rows * (16 if routed else 1), 1 << 16, user_rows)
    tile = (
        tiles.library_bytes
        + tiles.rows * tiles.columns * tiles.bytes_each
        + rows * (3 * k * 170 + 4 * items.dimension * routed)
    )
    diverse = DIVERSIFIED_AT_ONCE * k * items.dimension * 8 if rules.diversity else 0
    positive = INTERESTS_AT_ONCE * CLUSTERED * items.dimension * 4 if rules.interests > 1 else 0
    return PYTHON_BYTES + users + seen + lists + block + tile + diverse + positive


def list_rows(
    items: ItemBlocks,
    k: int,
    rules: ListRules = ListRules(),  # noqa: B008  (frozen)
    user_block_rows: int = 16_384,
    constant_columns: dict[str, Any] | None = None,
    names: dict[str, str] | None = None,
    scorer: ScorerFactory = ProfileScorer,
) -> ArrowTransform:
    """Transform users with their rules (``users_with_rules``) to lists, ``user_block_rows`` users at a time.

    Args:
        items: blocks to score.
        k: list length.
        rules: rules of every list.
        user_block_rows: number of users that are scored at once.
        constant_columns: further columns with one value for all rows.
        names: new names of columns.
        scorer: makes the scorer of a batch of users: by profile, interests or history.

    Returns:
        A transform with these stats of a task: ``users``; ``dropped``, users without a usable vector or history;
        ``unfilled_slots``, list positions without an item; of an approximate join ``shares``, stratum and recall of
        each user with a stratum.

    Raises:
        UsageError: k < 1.
    """
    if k < 1:
        raise UsageError(f"k must be at least 1, found {k}")

    def transform(batches: Iterator[pa.RecordBatch], stats: TaskStats) -> Iterator[pa.RecordBatch]:
        stats |= {"users": 0, "dropped": 0, "unfilled_slots": 0, "shares": []}
        for part in slices(batches, user_block_rows):
            users = scorer(part, items, k, rules)
            stats["users"] += part.num_rows
            stats["dropped"] += part.num_rows - len(users.ids)
            for block in items.blocks():
                users.update(block)
                del block  # otherwise the task would hold two blocks while it reads the next one
            stats["unfilled_slots"] += users.unfilled_slots
            stats["shares"] += users.recall_samples()
            for lists in users.lists():
                yield with_constant_columns(
                    lists.rename_columns([(names or {}).get(n, n) for n in lists.schema.names]), constant_columns or {}
                )

    return transform
