"""User profiles against item blocks: the blockwise cosine Top-K join, with the rules of a list inside the block."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.arrays.arrow import SLICE_BYTES, slices
from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.errors import UsageError
from recsys_spark.profiles.kernels.interests import CLUSTERED
from recsys_spark.tables.task_stream import ArrowTransform, TaskStats, with_constant_columns
from recsys_spark.topk.interest_scorer import USERS_AT_ONCE as INTERESTS_AT_ONCE
from recsys_spark.topk.kernels.cpu_product import cpu_tiles
from recsys_spark.topk.lists import HISTORY_COLUMNS, POSITIVE_COLUMNS, ListRules
from recsys_spark.topk.profile_scorer import DIVERSIFIED_AT_ONCE, ProfileScorer, candidates
from recsys_spark.topk.scorer import ScorerFactory

_SEEN_BYTES = 100 * 100
"""Of a user's seen items in a task: so many, with ids of 36 characters as they came and in order."""

RESULT_DDL = "user_id string, item_id string, score float, rank int"

USER_COLUMNS = {
    "seen": "array<string>",
    "allowed": "array<string>",
    "match_key": "string",
    "stratum": "int",  # marks the sample that recall is measured by
    "floor": "float",  # lower scores are not listed to this user
}
"""What a rule may know of a user; all may be null."""


def top_k_join(
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
    """The k items of greatest score for every user, all rules applied before the cut.

    Args:
        profiles: ``user_id, embedding`` (array<float>, of any length; vectors without a direction are left out) and,
            for ``rules.keyed``, ``match_key``; a ``floor`` where they have one.
        items: of the same dimension.
        k: list length; a user with fewer eligible items gets a shorter list.
        seen: ``user_id, item_id`` pairs that must not be listed: seen before, or denied.
        allowed: ``user_id, item_id``; a user named here is listed nothing else.
        rules: what holds for every list.
        user_block_rows: B, see ``task_bytes``. The result does not depend on it.
        tasks: number of user partitions; by default twice the cores. 0 leaves users in those that they are in: where
            items are few, moving profiles costs more than multiplying them.

    Returns:
        ``user_id, item_id, score, rank``: score descending then item_id ascending, ranks from 1. Scores are the
        cosine (and boost) computed in float64 from float32 unit vectors, rounded to float32; equal scores are ties
        and fall to the smaller item_id.

    Raises:
        UsageError: k < 1; in the tasks: dimensions of profiles and items differ.
    """
    make = list_rows(items, k, rules, user_block_rows)
    # Reached through the DataFrame: how many tasks run at once changes nothing but the time.
    tasks = 2 * profiles.sparkSession.sparkContext.defaultParallelism if tasks is None else tasks
    users = users_with_rules(profiles, seen, allowed, tasks)
    return users.mapInArrow(lambda batches: make(batches, {}), RESULT_DDL)


def users_with_rules(profiles: DataFrame, seen: DataFrame | None, allowed: DataFrame | None, tasks: int) -> DataFrame:
    """Profiles, or histories, with USER_COLUMNS in ``tasks`` partitions, 0: as they lie. What ``list_rows`` takes."""
    own = [name for name in ("embedding", *HISTORY_COLUMNS, *POSITIVE_COLUMNS) if name in profiles.columns]
    for name, pairs in (("seen", seen), ("allowed", allowed)):
        if pairs is not None:
            lists = pairs.groupBy("user_id").agg(F.collect_set("item_id").alias(name))
            profiles = profiles.join(lists, on="user_id", how="left")
    absent = {n: F.lit(None).cast(kind) for n, kind in USER_COLUMNS.items() if n not in profiles.columns}
    users = profiles.withColumns(absent) if absent else profiles
    users = users.select("user_id", *own, *USER_COLUMNS)
    return users if not tasks else users.repartition(tasks, "user_id")


def task_bytes(items: ItemBlocks, k: int, user_rows: int, rules: ListRules = ListRules()) -> int:  # noqa: B008
    """About the most memory of a task's Python process: grows with the blocks and k, not with users or items.

    The interpreter and its libraries; the users' vectors as they arrive and at unit length; one item block, once more
    where items are boosted or not always available; the lists, their order and the ids taken for them; 100 seen
    items of a user; one tile of products and its shortlist; for diversity the vectors of some users' candidates, for
    interests of what some liked.
    """
    seen = min(3 * SLICE_BYTES, user_rows * _SEEN_BYTES)
    k, user_rows = candidates(k, rules), user_rows * rules.interests
    item_rows, routed = min(items.block_rows, items.rows), bool(rules.nprobe) or rules.keyed
    users = user_rows * (8 * items.dimension + 40)
    lists = user_rows * k * 80
    block = item_rows * (4 * items.dimension + 64) * (1 + rules.boosts + items.dated)
    used = cpu_tiles()  # the driver stands for the executors
    rows = min(used.rows * (16 if routed else 1), 1 << 16, user_rows)
    tile = (
        used.library_bytes
        + used.rows * used.columns * used.bytes_each
        + rows * (3 * k * 170 + 4 * items.dimension * routed)
    )
    diverse = DIVERSIFIED_AT_ONCE * k * items.dimension * 8 if rules.diversity else 0
    liked = INTERESTS_AT_ONCE * CLUSTERED * items.dimension * 4 if rules.interests > 1 else 0
    return 210_000_000 + users + seen + lists + block + tile + diverse + liked


def list_rows(
    items: ItemBlocks,
    k: int,
    rules: ListRules = ListRules(),  # noqa: B008  (frozen)
    user_block_rows: int = 16_384,
    constant_columns: dict[str, Any] | None = None,
    names: dict[str, str] | None = None,
    scorer: ScorerFactory = ProfileScorer,
) -> ArrowTransform:
    """Users with their rules (``users_with_rules``) to lists, ``user_block_rows`` users at a time.

    ``constant_columns`` has the values of further columns, the same in every row; ``names`` other names for columns;
    ``scorer`` makes the scorer of a batch of users: of profiles, interests or histories. Notes the
    users without a usable vector (``dropped``) and the places that stay empty (``unfilled_slots``),
    and of an approximate join ``shares``: stratum and share of the exact list found, for users with a stratum.
    """
    if k < 1:
        raise UsageError(f"k must be at least 1, found {k}")

    def make(batches: Iterator[pa.RecordBatch], notes: TaskStats) -> Iterator[pa.RecordBatch]:
        notes |= {"users": 0, "dropped": 0, "unfilled_slots": 0, "shares": []}
        for part in slices(batches, user_block_rows):
            users = scorer(part, items, k, rules)
            notes["users"] += part.num_rows
            notes["dropped"] += part.num_rows - len(users.ids)
            for block in items.blocks():
                users.update(block)
                del block  # or two would be held while the next one is read
            notes["unfilled_slots"] += users.unfilled_slots
            notes["shares"] += users.recall_samples()
            for lists in users.lists():
                yield with_constant_columns(
                    lists.rename_columns([(names or {}).get(n, n) for n in lists.schema.names]), constant_columns or {}
                )

    return make
