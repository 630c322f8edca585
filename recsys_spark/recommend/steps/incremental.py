"""The last lists and what has changed since → recommendations, without meeting every user with every item again."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import reduce

import pyarrow as pa
from pyspark.sql import DataFrame

from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.blocks.steps.block_files import write_item_blocks
from recsys_spark.explain.steps.reasons import staged_lists
from recsys_spark.lake.data_files import no_rows
from recsys_spark.lake.lake import Staged
from recsys_spark.lake.plain_files import drop_blocks
from recsys_spark.publish.changes import changed_groups, changed_keys
from recsys_spark.publish.steps.partial_rewrite import partial_rewrite, rewritten_keys
from recsys_spark.publish.steps.previous_run import FullRebuild, Previous, previous
from recsys_spark.publish.steps.publishing import InputVersions, Report
from recsys_spark.publish.steps.scratch import materialized
from recsys_spark.recommend.incremental import merged_lists, users_changed, users_to_recompute, with_floors
from recsys_spark.recommend.options import TopKOptions
from recsys_spark.recommend.steps.list_run import ListRequest, list_rules, seen_and_allowed
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import ITEM_VECTORS, ITEMS, RECOMMENDATIONS, USER_PROFILES, USER_RULES, USERS, Table
from recsys_spark.topk.join import top_k_join
from recsys_spark.topk.rules import item_eligibility, items_with_rules, profiles_with_keys
from recsys_spark.topk.steps.join_plan import tasks_for

_MOST = 0.5
"""Share of the users from which all lists are made anew: the join then costs about as much."""


def last_lists(request: ListRequest) -> Previous | FullRebuild:
    """The lists to start from, or in words why there are none."""
    options = request.options
    if options.full:
        return FullRebuild("--full asks for it")
    for name in ("quota", "approximate", "diversity"):
        if getattr(options, name):
            return FullRebuild(f"a stored list does not tell enough for --{name}")
    if options.interests > 1:
        return FullRebuild("a stored list does not tell enough for --interests")
    last = previous(request.run, RECOMMENDATIONS, request.provenance)
    if isinstance(last, FullRebuild):
        return last
    was = last.frame(ITEM_VECTORS).select("model").first()
    return (
        last
        if was is not None and was["model"] == request.space
        else FullRebuild("item_vectors are in another vector space")
    )


def changed_lists(request: ListRequest, last: Previous, blocks: ItemBlocks) -> Report | FullRebuild:
    """Publish the lists of the full join, made from the last ones; or say why all must be made."""
    run, inputs, options = request.run, request.inputs, request.options
    stored, users = last.rows().select("user_id", "item_id", "score", "rank"), run.lake.rows(USER_PROFILES)
    with (
        materialized(run, _changed_items(inputs, options, last)) as items,
        materialized(run, users_to_recompute(stored, _changed_users(inputs, options, last), items.frame)) as redo,
    ):
        number = {"items_changed": items.rows, "users_redone": redo.rows}
        run.progress.note(
            f"recommend_items: {number['items_changed']:,} items changed, {number['users_redone']:,} of {users:,} "
            "users meet all items"
        )
        if number["users_redone"] > _MOST * users:
            return FullRebuild(f"{number['users_redone']} of {users} users have changed")
        profiles, redone = inputs.frame(run, USER_PROFILES), number["users_redone"]
        again = _lists(run, inputs, options, blocks, profiles, redone, redo=redo.frame) if redone else None
        new = _new_candidates(run, inputs, options, stored, redo.frame, items.frame) if items.rows else nullcontext()
        with new as newcomers:
            lists, gone = merged_lists(stored, again, newcomers, options.k), users_changed(redo.frame, newcomers)
            made = f"{redone} users who changed"
            if options.explain:
                report, staged = _told(request, last, stored, lists, gone, made)
            else:
                report, staged = _renewed(request, last, lists, gone, made)
    return report | number | {"users": users, "items": blocks.rows, "unfilled_slots": options.k * users - staged.rows}


def _renewed(
    request: ListRequest, last: Previous, lists: DataFrame | None, gone: DataFrame, made: str
) -> tuple[Report, Staged]:
    """The lists that stand, file by file with a new date, and beside them those of the users in ``gone``."""
    run_date, come = request.options.run_date, None
    if lists is not None:
        # As those of the full join, whatever a join has done to their order: they are looked at so.
        ordered = lists.sortWithinPartitions("user_id", "rank")
        come, _ = staged_lists(
            request.run, request.inputs, request.options, request.provenance, ordered, request.constant_columns
        )
    date_of = {"run_date": pa.scalar(run_date, pa.date32())}
    found = partial_rewrite(last, request.key, None if lists is None else gone, come, date_of)
    return request.publish(found.staged, made, parts=(found.old, found.new)), found.staged


def _told(
    request: ListRequest, last: Previous, stored: DataFrame, lists: DataFrame | None, gone: DataFrame, made: str
) -> tuple[Report, Staged]:
    """All lists with their reasons, which depend on more than the lists do."""
    stand = stored.join(gone, on="user_id", how="left_anti")
    merged = stand if lists is None else lists.unionByName(stand)
    merged = merged.sortWithinPartitions("user_id", "rank")
    version = last.head.version
    staged, told = staged_lists(
        request.run, request.inputs, request.options, request.provenance, merged, request.constant_columns, version
    )
    return request.publish(staged, made, told), staged


@contextmanager
def _new_candidates(
    run: Run, inputs: InputVersions, options: TopKOptions, stored: DataFrame, redo: DataFrame, items: DataFrame
) -> Iterator[DataFrame]:
    """What changed items bring to the lists of users who did not change."""
    standing = with_floors(inputs.frame(run, USER_PROFILES), stored, redo, options.k)
    users = run.lake.rows(USER_PROFILES)
    with (
        _blocks_of(run, inputs, options, items) as changed,
        materialized(run, _lists(run, inputs, options, changed, standing, users, items=items)) as found,
    ):
        yield found.frame


def _changed_items(inputs: InputVersions, options: TopKOptions, last: Previous) -> DataFrame:
    """``item_id`` of those with another vector, or of which the rules know something else on this run date."""
    run, parts = last.run, []
    if not last.saw(ITEM_VECTORS, inputs):
        parts.append(changed_keys(last.frame(ITEM_VECTORS), inputs.frame(run, ITEM_VECTORS), "item_id"))
    if ITEMS.name in inputs.versions and not (last.saw(ITEMS, inputs) and last.run_date == options.run_date):
        was = item_eligibility(last.frame(ITEMS), options.match_on, last.run_date)
        now = item_eligibility(inputs.frame(run, ITEMS), options.match_on, options.run_date)
        parts.append(changed_keys(was, now, "item_id"))
    none = no_rows(run.spark, ITEMS).select("item_id")
    return reduce(DataFrame.union, parts, none).distinct()


def _changed_users(inputs: InputVersions, options: TopKOptions, last: Previous) -> DataFrame:
    """``user_id`` of those with another profile, other events, rules or key."""
    parts = [last.other_events(inputs, options.run_date)]
    if not last.saw(USER_PROFILES, inputs):
        renewed = rewritten_keys(last, inputs, USER_PROFILES)
        if renewed is None:
            was, now = (rows.select("user_id", "embedding") for rows in _both(USER_PROFILES, inputs, last))
            renewed = changed_keys(was, now, "user_id")
        parts.append(renewed)
    if USER_RULES.name in inputs.versions and not last.saw(USER_RULES, inputs):
        parts.append(changed_groups(*_both(USER_RULES, inputs, last), "user_id"))
    if options.match_on and not last.saw(USERS, inputs):
        was, now = (rows.select("user_id", options.match_on) for rows in _both(USERS, inputs, last))
        parts.append(changed_keys(was, now, "user_id"))
    return reduce(DataFrame.union, parts).distinct()


def _both(table: Table, inputs: InputVersions, last: Previous) -> tuple[DataFrame, DataFrame]:
    return last.frame(table), inputs.frame(last.run, table)


def _lists(
    run: Run,
    inputs: InputVersions,
    options: TopKOptions,
    blocks: ItemBlocks,
    profiles: DataFrame,
    users: int,
    *,
    redo: DataFrame | None = None,
    items: DataFrame | None = None,
) -> DataFrame:
    """The join of ``profiles``, or those of the users in ``redo``, with ``blocks``, or those of ``items``.

    ``users``: how many they are.
    """
    seen, allowed = seen_and_allowed(run, inputs, options)
    if redo is not None:
        profiles, seen = (rows.join(redo, on="user_id", how="left_semi") for rows in (profiles, seen))
    if items is not None:
        seen = seen.join(items, on="item_id", how="left_semi")
    if options.match_on:
        profiles = profiles_with_keys(profiles, inputs.frame(run, USERS), options.match_on)
    return top_k_join(
        profiles,
        blocks,
        options.k,
        seen=seen,
        allowed=allowed,
        rules=list_rules(options, blocks),
        user_block_rows=options.user_block_rows,
        tasks=tasks_for(run, options, users) if items is None else 0,
    )


@contextmanager
def _blocks_of(run: Run, inputs: InputVersions, options: TopKOptions, items: DataFrame) -> Iterator[ItemBlocks]:
    """Blocks of the changed items alone, for the time being."""
    vectors = inputs.frame(run, ITEM_VECTORS).join(items, on="item_id", how="left_semi")
    if ITEMS.name in inputs.versions:
        vectors = items_with_rules(vectors, inputs.frame(run, ITEMS), options.match_on, None)
    uri = f"{run.lake.uri}/_blocks/changed/{uuid.uuid4().hex}"
    try:
        yield write_item_blocks(vectors, uri, options.item_block_rows, tasks=1)
    finally:
        drop_blocks(uri)
