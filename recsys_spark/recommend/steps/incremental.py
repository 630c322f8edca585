"""The last lists and the changes since → recommendations, without a join of all users with all items."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import reduce

import pyarrow as pa
from pyspark.sql import DataFrame

from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.blocks.steps.block_files import write_item_blocks
from recsys_spark.lake.data_files import no_rows
from recsys_spark.lake.plain_files import drop_blocks
from recsys_spark.publish.changes import changed_groups, changed_keys
from recsys_spark.publish.steps.partial_rewrite import partial_rewrite, rewritten_keys
from recsys_spark.publish.steps.previous_run import FullRebuild, Previous, previous
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.publish.steps.scratch import TempTable, materialized
from recsys_spark.recommend.incremental import merged_lists, users_changed, users_to_recompute, with_floors
from recsys_spark.recommend.steps.list_request import ListRequest
from recsys_spark.rules.steps.rule_base import RuleBase
from recsys_spark.tables.run_date import events_before
from recsys_spark.tables.schemas import EVENTS, ITEM_VECTORS, ITEMS, RECOMMENDATIONS, USER_PROFILES, USER_RULES, USERS
from recsys_spark.topk.join import join_blocks
from recsys_spark.topk.rules import item_eligibility
from recsys_spark.topk.steps.join_plan import tasks_for

_LARGEST_SHARE = 0.5
"""Largest share of users whose lists are recomputed; above it the full join costs about as much."""


def last_lists(request: ListRequest) -> Previous | FullRebuild:
    """The last lists, or the reason to recompute all."""
    options = request.options
    if options.full:
        return FullRebuild("--full asks for it")
    for name in ("quota", "approximate", "diversity"):
        if getattr(options, name):
            return FullRebuild(f"stored lists are not enough to apply --{name}")
    if options.interests > 1:
        return FullRebuild("stored lists are not enough to apply --interests")
    if options.freshness:
        return FullRebuild("freshness changes the scores of every day")
    if request.book is not None and request.book.of("pin", "diversify"):
        return FullRebuild("stored lists are not enough to pin or diversify items")
    if options.reranks:
        return FullRebuild("a re-ranking depends on all lists and their candidates")
    last = previous(request.run, RECOMMENDATIONS, request.provenance)
    if isinstance(last, FullRebuild):
        return last
    vector = last.frame(ITEM_VECTORS).select("model").first()
    if vector is None or vector["model"] != request.space:
        return FullRebuild("item_vectors are in another vector space")
    return last


def changed_lists(request: ListRequest, last: Previous, items: ItemBlocks) -> Report | FullRebuild:
    """Publish the lists of the full join, derived from the last ones, or return the reason to recompute all."""
    run, users = request.run, request.run.lake.rows(USER_PROFILES)
    stored = last.rows().select("user_id", "item_id", "score", "rank")
    with (
        materialized(run, _changed_items(request, last)) as changed_items,
        materialized(run, users_to_recompute(stored, _changed_users(request, last), changed_items.frame)) as recomputed,
    ):
        counts = {"items_changed": changed_items.rows, "users_redone": recomputed.rows}
        run.progress.note(
            f"recommend_items: {changed_items.rows:,} items changed, "
            f"{recomputed.rows:,} of {users:,} users are joined with all items"
        )
        if recomputed.rows > _LARGEST_SHARE * users:
            return FullRebuild(f"{recomputed.rows} of {users} users have changed")
        recomputed_lists = _lists_of_changed_users(request, items, recomputed) if recomputed.rows else None
        new_candidates = _new_candidates(request, stored, recomputed.frame, changed_items.frame)
        with new_candidates if changed_items.rows else nullcontext() as candidates:
            lists = merged_lists(stored, recomputed_lists, candidates, request.options.k)
            replaced = users_changed(recomputed.frame, candidates)
            publish = _with_new_reasons if request.options.explain else _beside_kept_lists
            report, rows = publish(request, last, lists, replaced, f"{recomputed.rows} users who changed")
    unfilled = request.options.k * users - rows
    return report | counts | {"users": users, "items": items.rows, "unfilled_slots": unfilled}


def _beside_kept_lists(
    request: ListRequest, last: Previous, lists: DataFrame | None, replaced: DataFrame, scope: str
) -> tuple[Report, int]:
    """Replace the lists of the users in ``replaced`` by ``lists``, and copy the others file by file with a new date.

    Returns the report and the number of rows.
    """
    added = None
    if lists is not None:
        # The audit checks the order, which joins do not keep.
        added, _ = request.staged_rows(lists.sortWithinPartitions("user_id", "rank"))
    new_date = {"run_date": pa.scalar(request.options.run_date, pa.date32())}
    rewrite = partial_rewrite(last, request.key, None if lists is None else replaced, added, new_date)
    return request.publish(rewrite.staged, scope, parts=(rewrite.old, rewrite.new)), rewrite.staged.rows


def _with_new_reasons(
    request: ListRequest, last: Previous, lists: DataFrame | None, replaced: DataFrame, scope: str
) -> tuple[Report, int]:
    """As ``_beside_kept_lists``, but explain all lists again, since reasons depend on more than the lists do."""
    stored = last.rows().select("user_id", "item_id", "score", "rank")
    unchanged = stored.join(replaced, on="user_id", how="left_anti")
    merged = unchanged if lists is None else lists.unionByName(unchanged)
    staged, fidelity = request.staged_rows(merged.sortWithinPartitions("user_id", "rank"), last.commit.version)
    return request.publish(staged, scope, fidelity), staged.rows


def _changed_items(request: ListRequest, last: Previous) -> DataFrame:
    """``item_id`` of items whose vector changed, or whose eligibility differs on this run date."""
    options, changed = request.options, []
    if not last.saw(ITEM_VECTORS, request.inputs):
        changed.append(changed_keys(last.frame(ITEM_VECTORS), request.frame(ITEM_VECTORS), "item_id"))
    if request.has(ITEMS) and not (last.saw(ITEMS, request.inputs) and last.run_date == options.run_date):
        was = item_eligibility(last.frame(ITEMS), options.match_on, last.run_date)
        now = item_eligibility(request.frame(ITEMS), options.match_on, options.run_date)
        changed.append(changed_keys(was, now, "item_id"))
        if request.rule_base is not None:
            before = request.rule_base.item_atoms(last.frame(ITEMS), last.run_date)
            changed.append(changed_keys(before, request.rule_base.item_atoms(), "item_id"))
    none = no_rows(request.run.spark, ITEMS).select("item_id")
    return reduce(DataFrame.union, changed, none).distinct()


def _changed_users(request: ListRequest, last: Previous) -> DataFrame:
    """``user_id`` of users whose profile, events, rules or key changed."""
    inputs, match_on = request.inputs, request.options.match_on
    changed = [last.other_events(inputs, request.options.run_date)]
    if not last.saw(USER_PROFILES, inputs):
        rewritten = rewritten_keys(last, inputs, USER_PROFILES)
        if rewritten is None:
            was, now = (
                rows.select("user_id", "embedding")
                for rows in (last.frame(USER_PROFILES), request.frame(USER_PROFILES))
            )
            rewritten = changed_keys(was, now, "user_id")
        changed.append(rewritten)
    if request.has(USER_RULES) and not last.saw(USER_RULES, inputs):
        changed.append(changed_groups(last.frame(USER_RULES), request.frame(USER_RULES), "user_id"))
    if match_on and not last.saw(USERS, inputs):
        was, now = (rows.select("user_id", match_on) for rows in (last.frame(USERS), request.frame(USERS)))
        changed.append(changed_keys(was, now, "user_id"))
    if request.rule_base is not None and request.has(USERS):
        changed.append(_users_with_other_atoms(request, last, request.rule_base))
    return reduce(DataFrame.union, changed).distinct()


def _users_with_other_atoms(request: ListRequest, last: Previous, base: RuleBase) -> DataFrame:
    """``user_id`` of users for whom other conditions hold. Those with other events have changed in any case."""
    day, inputs = last.run_date, request.inputs
    if last.saw(USERS, inputs) and (day == request.options.run_date or not base.book.names_run_date):
        return no_rows(request.run.spark, USERS).select("user_id")
    frames = replace(base.frames, users=last.frame(USERS), events=events_before(last.frame(EVENTS), day))
    ids = request.frame(USER_PROFILES)
    return changed_keys(base.user_atoms(ids, frames, day), base.user_atoms(ids), "user_id")


def _lists_of_changed_users(request: ListRequest, items: ItemBlocks, changed: TempTable) -> DataFrame:
    """The join of the changed users with all items."""
    seen, allowed = request.seen_and_allowed()
    profiles, seen = (
        rows.join(changed.frame, on="user_id", how="left_semi") for rows in (request.frame(USER_PROFILES), seen)
    )
    return _joined(request, items, profiles, seen, allowed, tasks_for(request.run, request.options, changed.rows))


@contextmanager
def _new_candidates(
    request: ListRequest, stored: DataFrame, recomputed: DataFrame, changed_items: DataFrame
) -> Iterator[DataFrame]:
    """Join the other users with the changed items; keep candidates that reach the score of the user's k-th item."""
    users = with_floors(request.frame(USER_PROFILES), stored, recomputed, request.options.k)
    seen, allowed = request.seen_and_allowed()
    seen = seen.join(changed_items, on="item_id", how="left_semi")
    with (
        _blocks_of(request, changed_items) as items,
        # tasks=0: no repartition, which would cost more than scoring a few items.
        materialized(request.run, _joined(request, items, users, seen, allowed, tasks=0)) as candidates,
    ):
        yield candidates.frame


def _joined(
    request: ListRequest,
    items: ItemBlocks,
    profiles: DataFrame,
    seen: DataFrame,
    allowed: DataFrame | None,
    tasks: int,
) -> DataFrame:
    return join_blocks(
        request.with_keys(profiles),
        items,
        request.options.k,
        seen=seen,
        allowed=allowed,
        rules=request.rules(items),
        user_block_rows=request.options.user_block_rows,
        tasks=tasks,
    )


@contextmanager
def _blocks_of(request: ListRequest, changed_items: DataFrame) -> Iterator[ItemBlocks]:
    """Temporary item blocks of the changed items only."""
    vectors = request.frame(ITEM_VECTORS).join(changed_items, on="item_id", how="left_semi")
    uri = f"{request.run.lake.uri}/_blocks/changed/{uuid.uuid4().hex}"
    try:
        yield write_item_blocks(request.with_item_rules(vectors), uri, request.options.item_block_rows, tasks=1)
    finally:
        drop_blocks(uri)
