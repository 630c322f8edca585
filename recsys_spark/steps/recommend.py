"""user_profiles, item_vectors, seen items and rules → recommendations."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import UsageError
from recsys_spark.item_blocks import ItemBlocks
from recsys_spark.job import Run
from recsys_spark.lake import Staged
from recsys_spark.options import TopKOptions
from recsys_spark.profiles import before
from recsys_spark.recommend import list_rows, users_with_rules
from recsys_spark.rules import allowed, denied, profiles_with_keys
from recsys_spark.steps.approximate import stage_with_recall
from recsys_spark.steps.item_blocks import announce, item_blocks, tasks_for
from recsys_spark.steps.publishing import Inputs, Report, inputs, publish_staged, run_key, unchanged
from recsys_spark.tables import EVENTS, ITEM_VECTORS, ITEMS, RECOMMENDATIONS, USER_PROFILES, USER_RULES, USERS, Table
from recsys_spark.user_block import ListRules


def recommendations(run: Run, options: TopKOptions) -> Report:
    """Publish the lists of all users that have a profile."""
    known = inputs(run, USER_PROFILES, ITEM_VECTORS, EVENTS, *_rule_tables(run, options))
    facts = {"inputs": known.states, "run_date": options.run_date} | rules_of(options)
    key = run_key("recommend_items", facts)
    if (done := unchanged(run, key, RECOMMENDATIONS)) is not None:
        return done
    space = one_space(run, known)
    if options.dry_run:
        return {"tables": {}}
    blocks, users = item_blocks(run, known, options), run.lake.rows(USER_PROFILES)
    tasks = tasks_for(run, options, users)
    rules = ListRules(
        min_score=options.min_score,
        quota=options.quota,
        boosts=blocks.boosted,
        run_date=options.run_date,
        keyed=bool(options.match_on),
        diversity=options.diversity,
        diversify_from=options.diversify_from,
    )
    bound = announce(run, options, blocks, users, tasks, replace(rules, nprobe=blocks.lists))
    stamp = {"run_date": options.run_date, "model": space}

    def stage(profiles: DataFrame, nprobe: int) -> Staged:
        make = list_rows(blocks, options.k, replace(rules, nprobe=nprobe), options.user_block_rows, stamp)
        return run.lake.stage(_users(run, known, profiles, options, tasks), RECOMMENDATIONS, make)

    profiles, recall = known.frame(run, USER_PROFILES), dict[str, Any]()
    if options.approximate:
        staged, recall = stage_with_recall(run, options, blocks, profiles, stage)
    else:
        staged = stage(profiles, 0)
    report = publish_staged(run, key, staged, facts | recall)
    return report | _figures(staged.notes, blocks) | {"task_memory_mb": round(bound / 1e6)} | recall


def _rule_tables(run: Run, options: TopKOptions) -> list[Table]:
    """What rules are read from: a lake of vectors and events alone has none."""
    wanted = [ITEMS] if options.quota or options.match_on else []
    found = [table for table in (ITEMS, USER_RULES) if run.lake.version(table) is not None and table not in wanted]
    return [*wanted, *found, *([USERS] if options.match_on else [])]


def rules_of(options: TopKOptions) -> dict[str, Any]:
    """The options that lists depend on; block sizes and tasks are none of them."""
    exact = {"k", "min_score", "quota", "quota_on", "match_on", "diversity", "diversify_from"}
    approximate = {"approximate", "target_recall", "lists", "nprobe", "recall_users", "grouping_seed"}
    return options.model_dump(mode="json", include=exact | (approximate if options.approximate else set()))


def one_space(run: Run, known: Inputs) -> str:
    """Two vector spaces never meet: refused by name before anything is multiplied."""
    named = {}
    for table in (USER_PROFILES, ITEM_VECTORS):
        first, last = known.frame(run, table).agg(F.min("model"), F.max("model")).collect()[0]
        if first is not None and first != last:
            raise UsageError(f"table '{table.name}' mixes the vector spaces {first} and {last}: build it again")
        named[table.name] = first
    users, items = named.values()
    if users is not None and users != items:
        raise UsageError(
            f"user_profiles are in vector space {users}, item_vectors in {items}: "
            "run build_profiles again after build_item_vectors"
        )
    return str(items)


def _users(run: Run, known: Inputs, profiles: DataFrame, options: TopKOptions, tasks: int) -> DataFrame:
    if options.match_on:
        profiles = profiles_with_keys(profiles, known.frame(run, USERS), options.match_on)
    seen = before(known.frame(run, EVENTS), options.run_date).select("user_id", "item_id")
    if USER_RULES.name not in known.versions or not run.lake.rows(USER_RULES):
        return users_with_rules(profiles, seen, None, tasks)
    rules = known.frame(run, USER_RULES)
    return users_with_rules(profiles, denied(seen, rules), allowed(rules), tasks)


def _figures(notes: Sequence[Mapping[str, Any]], blocks: ItemBlocks) -> dict[str, int]:
    """Sums over the tasks."""
    names = ("users", "dropped", "places_short")
    users, dropped, short = (sum(note.get(name, 0) for note in notes) for name in names)
    return {"users": users, "profiles_dropped": dropped, "items": blocks.rows, "places_short": short}
