"""A lake → a copy with an injected attack, and the truth beside it."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import InputError, UsageError
from recsys_spark.events.relevance import is_positive_event
from recsys_spark.lake.lake import Lake
from recsys_spark.lake.provenance import Provenance
from recsys_spark.publish.steps.publishing import Report, pin_inputs, run_key
from recsys_spark.risk.attack_pools import farm_items, item_counts, popular_items, pushed_items, segment_items
from recsys_spark.risk.attacked_items import attacked_items, frequent_words
from recsys_spark.risk.attacked_log import (
    GRID,
    Log,
    Plan,
    attacker_of,
    farm_events,
    is_sampled,
    shilling_events,
    takeover_events,
)
from recsys_spark.risk.options import ON_ITEMS, AttackOptions
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.run_date import events_before
from recsys_spark.tables.schemas import ATTACK_TRUTH, EMBEDDINGS, EVENTS, ITEMS, USER_RULES, USERS, Table

_WORDS_AT_MOST = 40
"""Popular words that the stuffing of a title is drawn from."""

_POSITIVE = {"view": 1.0, "click": 1.0, "cart": 1.0, "purchase": 1.0, "rating": 1.0}


def simulate_attacks(run: Run, options: AttackOptions) -> Report:
    """Write the tables that other jobs start from to another lake, with an attack, and its truth.

    Raises:
        UsageError: the other lake is this one, or has tables of another attack.
        InputError: there are no items or events, or the share draws nobody.
    """
    target = Lake(options.output_lake)
    if target.uri == run.lake.uri:
        raise UsageError("--output_lake is this lake: an attack is written to a copy, give it another folder")
    copied = [table for table in (USERS, USER_RULES, EMBEDDINGS) if run.lake.version(table) is not None]
    inputs = pin_inputs(run, ITEMS, EVENTS, *copied)
    settings = options.model_dump(mode="json", include={"attack", "share", "targets", "attack_days", "seed"})
    provenance = Provenance(inputs.content_ids, options.run_date, settings=settings)
    key = run_key("simulate_attacks", provenance)
    last = target.last_commit(ATTACK_TRUTH)
    if last is not None and last.key == key:
        return {"status": "unchanged", "tables": {ATTACK_TRUTH.name: target.rows(ATTACK_TRUTH)}}
    if last is not None or target.version(EVENTS) is not None:
        raise UsageError(f"--output_lake {target.uri} has tables already: give the copy a folder of its own")
    if options.dry_run:
        return {"tables": {}}
    frames = {table: inputs.frame(run, table) for table in (ITEMS, EVENTS, *copied)}
    on_items = options.attack in ON_ITEMS
    changed, truth = (_on_items if on_items else _on_users)(run, options, frames)
    written = {table.name: _write(target, table, rows, key, provenance) for table, rows in (frames | changed).items()}
    rows = _write(target, ATTACK_TRUTH, truth, key, provenance)
    return {"status": "done", "tables": written | {ATTACK_TRUTH.name: rows}, "output_lake": target.uri}


def _write(lake: Lake, table: Table, rows: DataFrame, key: str, provenance: Provenance) -> int:
    staged = lake.stage(rows.select(*table.columns), table)
    if table is ATTACK_TRUTH and not staged.rows:
        lake.discard(staged)
        raise InputError("the share draws no user and no item: give a greater --share, or another --seed")
    lake.commit(staged, key, provenance=provenance)
    return staged.rows


def _on_users(
    run: Run, options: AttackOptions, frames: dict[Table, DataFrame]
) -> tuple[dict[Table, DataFrame], DataFrame]:
    """The tables that an attack by users changes, and its truth."""
    events, items = events_before(frames[EVENTS], options.run_date), frames[ITEMS]
    log, plan = _log(events, run.lake.rows(ITEMS), options), _plan(run, options, events)
    if options.attack == "click_farm":
        rows = farm_events(events, log, plan)
    elif options.attack == "takeover":
        rows = takeover_events(events, items, log, plan)
    else:
        rows = shilling_events(events, items, log, plan)
    pushed = F.lit(options.attack).alias("attack")
    truth = rows.groupBy("user_id").agg(F.min("target").alias("item_id")).select("user_id", "item_id", pushed)
    more = frames[EVENTS].unionByName(rows.drop("target")).groupBy(*EVENTS.key).agg(F.max("value").alias("value"))
    changed = {EVENTS: more}
    if USERS in frames and options.attack != "takeover":
        users = frames[USERS].where(is_sampled("user_id", plan))
        users = users.withColumn("user_id", attacker_of("user_id", plan))
        changed[USERS] = frames[USERS].unionByName(
            users.join(rows.select("user_id").distinct(), "user_id", "left_semi")
        )
    return changed, truth


def _on_items(
    run: Run, options: AttackOptions, frames: dict[Table, DataFrame]
) -> tuple[dict[Table, DataFrame], DataFrame]:
    """The items with those that an attack changes or adds, and its truth."""
    items = frames[ITEMS]
    words = [row["word"] for row in frequent_words(items, _WORDS_AT_MOST).collect()]
    plan = Plan(options.attack, options.seed, options.share, options.attack_days, [], [], None, [])
    attacked = attacked_items(items, plan, words)
    rest = items.join(attacked.select("item_id"), on="item_id", how="left_anti")
    truth = attacked.select(
        F.lit(None).cast("string").alias("user_id"), "item_id", F.lit(options.attack).alias("attack")
    )
    return {ITEMS: rest.unionByName(attacked)}, truth


def _log(events: DataFrame, items: int, options: AttackOptions) -> Log:
    """What the attackers know; a few numbers, all from sums of integers."""
    is_rating = F.col("event_type") == "rating"
    units = F.when(is_rating, F.round(F.col("value") * GRID).cast("decimal(38,0)"))
    row = events.agg(
        F.max(F.unix_micros("timestamp")).alias("end"),
        F.count(units).alias("n"),
        F.sum(units).alias("sum"),
        F.sum(units * units).alias("squares"),
        F.min(F.when(is_rating, F.col("value"))).alias("least"),
        F.max(F.when(is_rating, F.col("value"))).alias("most"),
    ).collect()[0]
    if row["end"] is None:
        raise InputError(f"table 'events' has no event before {options.run_date}: there is nobody to imitate")
    types = events.where(is_positive_event(_POSITIVE, 0.0) & ~is_rating).groupBy("event_type").count()
    frequent = types.orderBy(F.desc("count"), "event_type").first()
    ratings = None
    if row["n"]:
        mean = float(row["sum"]) / row["n"] / GRID
        variance = max(float(row["squares"]) / row["n"] / GRID**2 - mean * mean, 0.0)
        ratings = (mean, variance**0.5, row["least"], row["most"])
    return Log(row["end"], ratings, frequent["event_type"] if frequent else "view", items)


def _plan(run: Run, options: AttackOptions, events: DataFrame) -> Plan:
    """The plan, with the ids of its pools: at most some 1,100."""
    counts = item_counts(events)
    targets = _ids(pushed_items(counts, options.targets, options.seed))
    popular = _ids(popular_items(counts, run.lake.rows(ITEMS))) if options.attack == "bandwagon" else []
    farm = _ids(farm_items(counts, options.seed)) if options.attack == "click_farm" else []
    segments = None
    if options.attack == "segment":
        names = run.spark.createDataFrame([(name,) for name in targets], "item_id string")
        rows = segment_items(events, counts, names).collect()  # 20 ids for each target
        segments = run.spark.createDataFrame(
            [(r["target"], r["items"]) for r in rows], "target string, items array<string>"
        )
    return Plan(options.attack, options.seed, options.share, options.attack_days, targets, popular, segments, farm)


def _ids(rows: DataFrame) -> list[str]:
    return [row["item_id"] for row in rows.collect()]
