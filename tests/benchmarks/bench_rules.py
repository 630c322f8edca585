#!/usr/bin/env python3
"""The Top-K join with a rule base against the join without one. Prints one JSON line last.

    tests/benchmarks/bench_rules.py --users=20000 --items=100000 --dim=384 --k=100 --rules=1000 [--pairs=3]

Random unit vectors. A third of the rules are about items alone, a third about users and items, a third about users
(20 cities, 10 ages) and items; among them bans, boosts for three user conditions, and one comparison of pairs (the age
of the user with that of the item). Both joins read profiles and item blocks, take turns, and write nothing. ``pairs``
is the share of pairs that the rules remove. ``atoms_s`` and ``audit_s``: the conditions on users, and what each rule
did to every list, written to the lake.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

if "RECSYS_BENCHMARK" not in os.environ:  # in the environment that `run` sets up
    os.execv(Path(__file__).with_name("run"), ["run", *sys.argv])

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from local_session import local_session
from pairs import paired
from pyspark.sql import functions as F

from recsys_spark.arrays.arrow import as_lists
from recsys_spark.arrays.vectors import unit_rows
from recsys_spark.blocks.steps.block_files import write_item_blocks
from recsys_spark.lake.data_files import no_rows
from recsys_spark.lake.lake import Lake
from recsys_spark.lake.provenance import Provenance
from recsys_spark.rules.rule_file import parse_rules
from recsys_spark.rules.steps.publish_audit import publish_audit
from recsys_spark.rules.steps.read_rules import check_conditions
from recsys_spark.rules.steps.rule_base import RuleBase, RuleFrames
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.schemas import EVENTS, ITEMS, RECOMMENDATIONS, RULE_AUDIT, USERS
from recsys_spark.topk.join import list_rows, users_with_rules
from recsys_spark.topk.lists import ListRules

DAY = date(2024, 5, 1)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, number in (
        ("users", 20_000),
        ("items", 100_000),
        ("dim", 384),
        ("k", 100),
        ("rules", 1000),
        ("pairs", 3),
    ):
        parser.add_argument(f"--{name}", type=int, default=number)
    return parser.parse_args()


def rules_text(count: int) -> str:
    """A rules file of ``count`` rules."""
    parts = ['[items]\nmin_age = "int"\nsize = "int"\n[users]\nage = "int"\ncity = "string"\n']
    for number in range(count):
        head = f'[[rules]]\nid = "r{number}"\nreason = "benchmark"\npriority = {number % 7}\n'
        if number == 0:
            body = 'action = "require"\npairs = "user.age >= item.min_age"\n'
        elif number % 20 == 1:
            place = ["city = 'c1'", "city = 'c2'", "age < 30"][number % 3]
            body = f'action = "boost"\nboost = 0.05\nusers = "{place}"\nitems = "brand = \'b{number % 300}\'"\n'
        elif number % 3 == 1:
            body = f'action = "ban"\nitems = "brand = \'b{number % 300}\' AND size > {80 + number % 19}"\n'
        elif number % 3 == 2:
            body = f'action = "ban"\nusers = "city = \'c{number % 20}\'"\nitems = "brand = \'b{number % 300}\'"\n'
        else:
            size, age = number % 97, 20 + 5 * (number % 10)
            items = f"size BETWEEN {size} AND {size + 1} AND price > 80"
            body = f'action = "ban"\nusers = "age < {age}"\nitems = "{items}"\n'
        parts.append(head + body)
    return "".join(parts)


def main() -> None:
    """Measure and print."""
    options = arguments()
    scratch = tempfile.mkdtemp(prefix="bench-rules-")
    try:
        print(json.dumps(measure(options, scratch)))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def measure(options: argparse.Namespace, scratch: str) -> dict[str, object]:
    """Both joins."""
    spark, random = local_session(), np.random.default_rng(0)
    lake, run = Lake(f"{scratch}/lake"), Run("bench", Lake(f"{scratch}/lake"), Progress())
    ids = [f"i{n:07d}" for n in range(options.items)], [f"u{n:07d}" for n in range(options.users)]
    paths = []
    for key, names in zip(("item_id", "user_id"), ids, strict=True):
        vectors = unit_rows(random.standard_normal((len(names), options.dim))).astype(np.float32)
        paths.append(f"{scratch}/{key}.parquet")
        pq.write_table(pa.table({key: names, "embedding": as_lists(vectors)}), paths[-1], row_group_size=10_000)
    vectors, profiles = (spark.read.parquet(path) for path in paths)
    number = F.substring("item_id", 2, 9).cast("int")
    attributes = F.to_json(F.struct((F.pmod(F.xxhash64("item_id"), F.lit(8)) * 3).alias("min_age"),
                                    F.pmod(F.hash("item_id"), F.lit(100)).alias("size")))  # fmt: skip
    items = vectors.select("item_id", F.concat(F.lit("b"), number % 300).alias("brand"),
                           (number % 100).cast("double").alias("price"), attributes.alias("attributes"))  # fmt: skip
    who = F.substring("user_id", 2, 9).cast("int")
    city = F.concat(F.lit("c"), F.pmod(F.xxhash64("user_id"), F.lit(20)))
    traits = F.to_json(F.struct((15 + 6 * (who % 10)).alias("age"), city.alias("city")))
    users = profiles.select("user_id", traits.alias("attributes"))
    tables = []
    for frame, table in ((items, ITEMS), (users, USERS)):
        absent = {n: F.lit(None).cast(kind) for n, kind in table.columns.items() if n not in frame.columns}
        lake.commit(lake.stage(frame.withColumns(absent).select(*table.columns), table), "bench")
        tables.append(lake.read(spark, table))
    events = no_rows(spark, EVENTS)
    book = parse_rules(rules_text(options.rules), "bench.toml").active(DAY)
    started = time.monotonic()
    check_conditions(run, book, DAY)
    checked = time.monotonic() - started
    base = RuleBase(run, book, RuleFrames(*tables, events), DAY)
    started = time.monotonic()
    table = base.table
    planned = time.monotonic() - started
    rows = base.with_item_rules(vectors.withColumn("quota_group", F.lit(None).cast("bigint")))
    started = time.monotonic()
    blocks = write_item_blocks(rows, f"{scratch}/blocks", 65_536, tasks=run.cores)
    packed = time.monotonic() - started
    tasks = 2 * run.cores

    def join(ruled: bool) -> None:
        rules = ListRules(table=table if ruled else None)
        frame = profiles
        if ruled:
            frame = profiles.join(base.user_atoms(profiles.select("user_id")), on="user_id", how="left")
        lists = list_rows(
            blocks, options.k, rules, 16_384, {"run_date": DAY, "model": "m", "reasons": None, "source": None}
        )
        staged = lake.stage(users_with_rules(frame, None, None, tasks), RECOMMENDATIONS, lists)
        assert staged.rows == options.users * options.k
        lake.discard(staged)

    join(True), join(False)
    seconds, ratio = paired("without rules", lambda: join(False), "with rules", lambda: join(True), options.pairs)
    started = time.monotonic()
    publish_audit(run, "bench", base, users.select("user_id"), Provenance())
    audited = time.monotonic() - started
    audit = (
        lake.read(spark, RULE_AUDIT).agg(F.sum("candidates"), F.sum("remaining"), F.avg(F.size("rules"))).collect()[0]
    )
    return {
        "users": options.users, "items": options.items, "dim": options.dim, "k": options.k, "rules": options.rules,
        "seconds_with_rules": round(seconds, 2), "speed_up": ratio, "check_s": round(checked, 1),
        "plan_s": round(planned, 1), "pack_s": round(packed, 1), "audit_s": round(audited, 1),
        "removed_share": round(1 - audit[1] / audit[0], 3), "rules_a_list": round(audit[2], 1),
    }  # fmt: skip


if __name__ == "__main__":
    main()
