#!/usr/bin/env python3
"""Injected attacks against a lake: who is found, and what trust weights save. Prints a table and one JSON line last.

    tests/benchmarks/bench_attacks.py --lake=LAKE --run_date=DATE [--attacks=random,average,…] [--share=0.03]
        [--days=30] [--targets=1] [--trust_from=8] [--scorer=hybrid]

LAKE is one that refresh_lake made. The newest event of every user is held out: ``hit_rate`` is the share of users whose
held-out item is in their list of 10, ``pushed`` the share of honest users who do not have the pushed item and get it.
Lists are those of ``--scorer``: as published before the attack, after it, and after it with trust weights. For attacks
on items, ``pushed`` is the share of all places of the lists that the changed items have. ``auc`` and
``precision`` (at as many users as there are attackers) are of the scores of ``score_risk``, which sees no truth.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

if "RECSYS_BENCHMARK" not in os.environ:  # in the environment that `run` sets up
    os.execv(Path(__file__).with_name("run"), ["run", *sys.argv])

import numpy as np
from local_session import local_session
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from recsys_spark.encode.options import EncoderOptions
from recsys_spark.encode.steps.embed_texts import embed_texts
from recsys_spark.encode.steps.model_source import resolve_model
from recsys_spark.events.options import HistoryOptions
from recsys_spark.hybrid.options import FitOptions
from recsys_spark.hybrid.steps.fit_item_weights import fit_item_weights
from recsys_spark.items.options import BlockOptions
from recsys_spark.items.steps.build_item_vectors import build_item_vectors
from recsys_spark.lake.lake import Lake
from recsys_spark.recommend.options import TopKOptions
from recsys_spark.recommend.steps.recommend_items import recommend_items
from recsys_spark.risk.options import ON_ITEMS, ON_USERS, AttackOptions, RiskOptions
from recsys_spark.risk.steps.score_risk import score_risk
from recsys_spark.risk.steps.simulate_attacks import simulate_attacks
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.schemas import ATTACK_TRUTH, EVENTS, ITEM_RISK, RECOMMENDATIONS, USER_RISK, USERS

K = 10


@dataclass
class Bench:
    """A lake without the newest event of each user, and what was held out."""

    spark: SparkSession
    folder: Path
    arguments: argparse.Namespace
    held_out: dict[str, str]

    def run(self, lake: Path) -> Run:
        return Run("bench", Lake(str(lake)), Progress())

    def options(self, lake: Path) -> dict:
        return {"lake": str(lake), "run_date": date.fromisoformat(self.arguments.run_date), "accept_drift": True}

    def lists(self, lake: Path, *, trusted: bool) -> dict[str, set[str]]:
        """The lists of a lake by hybrid weights."""
        run, options = self.run(lake), self.options(lake)
        scorer = self.arguments.scorer
        fit_item_weights(run, FitOptions(**options, trust_weights=trusted))
        recommend_items(run, TopKOptions(**options, scorer=scorer, k=K, trust_weights=trusted and scorer == "auto"))
        found: dict[str, set[str]] = {}
        table = run.lake.read(self.spark, RECOMMENDATIONS).select("user_id", "item_id").toArrow()
        for user, item in zip(table["user_id"].to_pylist(), table["item_id"].to_pylist(), strict=True):
            found.setdefault(user, set()).add(item)
        return found

    def hit_rate(self, lists: dict[str, set[str]]) -> float:
        """Share of users with a held-out item whose list has it."""
        return float(np.mean([item in lists.get(user, ()) for user, item in self.held_out.items()]))

    def risk(self, lake: Path) -> dict[str, tuple[float, float]]:
        """Score and trust by user, then by item."""
        run = self.run(lake)
        score_risk(run, RiskOptions(**self.options(lake), trust_from=self.arguments.trust_from))
        rows = [r for table in (USER_RISK, ITEM_RISK) for r in run.lake.read(self.spark, table).collect()]
        return {r[0]: (r["score"], r["trust"]) for r in rows}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lake", required=True)
    parser.add_argument("--run_date", required=True)
    parser.add_argument("--attacks", default=",".join((*ON_USERS, *ON_ITEMS)))
    parser.add_argument("--share", type=float, default=0.03)
    parser.add_argument("--days", type=float, default=30)
    parser.add_argument("--targets", type=int, default=1)
    parser.add_argument("--trust_from", type=float, default=RiskOptions.model_fields["trust_from"].default)
    parser.add_argument("--scorer", default="hybrid")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lists", default="true", help="false: only who is found")
    arguments = parser.parse_args()
    spark = local_session()
    with tempfile.TemporaryDirectory(prefix="bench-attacks-") as folder:
        print(json.dumps(measured(spark, Path(folder), arguments)))


def measured(spark: SparkSession, folder: Path, arguments: argparse.Namespace) -> dict:
    """All attacks one after the other."""
    bench = Bench(spark, folder, arguments, {})
    base = split(bench)
    report: dict = {"lake": Path(arguments.lake).name, "share": arguments.share, "targets": arguments.targets}
    with_lists, clean = arguments.lists == "true", {}
    if with_lists:
        clean = bench.lists(base, trusted=False)
        bench.risk(base)
        trusted = bench.lists(base, trusted=True)
        report |= {"hit_rate": bench.hit_rate(clean), "hit_rate_with_trust": bench.hit_rate(trusted)}
        show("clean", report)
    for attack in arguments.attacks.split(","):
        started = time.process_time()
        row = attacked(bench, base, attack, clean, with_lists)
        row["driver_cpu_s"] = round(time.process_time() - started, 1)
        report[attack] = row
        show(attack, row)
    return report


def split(bench: Bench) -> Path:
    """A copy of the lake without the newest event of each user with three events or more."""
    lake, base = Lake(bench.arguments.lake), bench.folder / "base"
    for table in ("items", "users", "user_rules", "embeddings", "item_vectors"):
        if (Path(bench.arguments.lake) / table).exists():
            shutil.copytree(Path(bench.arguments.lake) / table, base / table)
    place = Window.partitionBy("user_id")
    order = place.orderBy(F.desc("timestamp"), F.xxhash64("item_id"))
    events = lake.read(bench.spark, EVENTS).withColumn("n", F.count("*").over(place))
    events = events.withColumn("place", F.row_number().over(order)).cache()
    newest = (F.col("place") == 1) & (F.col("n") >= 3)
    target = Lake(str(base))
    target.commit(target.stage(events.where(~newest).select(*EVENTS.columns), EVENTS), "split")
    bench.held_out.update({r["user_id"]: r["item_id"] for r in events.where(newest).collect()})
    return base


def attacked(bench: Bench, base: Path, attack: str, clean: dict, with_lists: bool) -> dict:
    """One attack: what is found, and what it moves without and with trust."""
    lake = bench.folder / attack
    options = {
        "attack": attack,
        "share": bench.arguments.share,
        "targets": bench.arguments.targets,
        "seed": bench.arguments.seed,
    }
    run_date = date.fromisoformat(bench.arguments.run_date)
    simulate_attacks(
        bench.run(base),
        AttackOptions(
            lake=str(base), output_lake=str(lake), run_date=run_date, attack_days=bench.arguments.days, **options
        ),
    )
    on_items = attack in ON_ITEMS
    if on_items:
        encode(bench, lake)
    else:
        shutil.copytree(base / "item_vectors", lake / "item_vectors")
    truth = bench.run(lake).lake.read(bench.spark, ATTACK_TRUTH).collect()
    targets = {row["user_id"]: row["item_id"] for row in truth}
    attackers = {row["item_id"] for row in truth} if on_items else set(targets)
    scores = bench.risk(lake)
    table = ITEM_RISK if on_items else USER_RISK
    rows = bench.run(lake).lake.read(bench.spark, table).collect()
    row = found([r[0] for r in rows], np.array([r["score"] for r in rows]), attackers)
    row["distrusted_honest"] = float(np.mean([r["trust"] < 1 for r in rows if r[0] not in attackers]))
    row["distrusted_attackers"] = float(np.mean([r["trust"] < 1 for r in rows if r[0] in attackers]))
    if not on_items:
        row["flagged_by_group"] = flagged_by_group(bench, base, rows, attackers)
    if with_lists:
        plain, trusted = (bench.lists(lake, trusted=trusted) for trusted in (False, True))
        exposure = share_of_places if on_items else pushed_rate
        pushed = set(attackers) if on_items else set(targets.values())
        before, after, kept = (exposure(lists, pushed, attackers) for lists in (clean, plain, trusted))
        shift = after - before
        row |= {"pushed_before": before, "pushed": after, "pushed_with_trust": kept}
        row["shift_removed"] = round(1 - (kept - before) / shift, 3) if shift > 0 else None
        row |= {"hit_rate": bench.hit_rate(plain), "hit_rate_with_trust": bench.hit_rate(trusted)}
    assert scores
    shutil.rmtree(lake, ignore_errors=True)
    return row


def encode(bench: Bench, lake: Path) -> None:
    """Encode the changed texts and build the vectors of the items."""
    run, options = bench.run(lake), bench.options(lake)
    chosen = {name: value for name, value in options.items() if name != "accept_drift"}
    model, encoder = resolve_model(EncoderOptions(lake=str(lake)), run), EncoderOptions(lake=str(lake))
    embed_texts(run, encoder, run_date=options["run_date"])
    build_item_vectors(run, BlockOptions(**{"lake": str(lake)}), model, HistoryOptions(**chosen))


def found(names: list[str], scores: np.ndarray, attackers: set[str]) -> dict:
    """AUC, and precision at as many as there are attackers."""
    is_attacker = np.array([name in attackers for name in names])
    order = np.argsort(scores, kind="stable")
    ranks = np.empty(len(scores))
    _, first, counts = np.unique(scores[order], return_index=True, return_counts=True)
    ranks[order] = np.repeat(first + (counts + 1) / 2, counts)
    n, m = int(is_attacker.sum()), int((~is_attacker).sum())
    auc = (ranks[is_attacker].sum() - n * (n + 1) / 2) / (n * m) if n and m else float("nan")
    budget = sorted(range(len(names)), key=lambda one: (-scores[one], names[one]))[:n]
    return {"attackers": n, "auc": round(float(auc), 4), "precision": round(float(is_attacker[budget].mean()), 3)}


def flagged_by_group(bench: Bench, base: Path, rows: list, attackers: set[str]) -> dict[str, float]:
    """Share of the honest users of each group that are among the first, as many as there are attackers."""
    if not (base / "users").exists():
        return {}
    first = {r[0] for r in sorted(rows, key=lambda r: (-r["score"], r[0]))[: len(attackers)]}
    users: DataFrame = Lake(str(base)).read(bench.spark, USERS).select("user_id", F.explode("groups").alias("group"))
    groups: dict[str, list[bool]] = {}
    for row in users.collect():
        groups.setdefault(row["group"], []).append(row["user_id"] in first - attackers)
    return {name: round(float(np.mean(flags)), 4) for name, flags in sorted(groups.items())}


def pushed_rate(lists: dict[str, set[str]], pushed: set[str], attackers: set[str]) -> float:
    """Share of the honest lists that have a pushed item."""
    honest = [items for user, items in lists.items() if user not in attackers]
    return float(np.mean([bool(items & pushed) for items in honest]))


def share_of_places(lists: dict[str, set[str]], pushed: set[str], _: set[str]) -> float:
    """Share of all places that the changed items have."""
    return float(np.mean([len(items & pushed) / K for items in lists.values()]))


def show(name: str, row: dict) -> None:
    """One line of the table."""
    figures = {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
    print(f"{name}: {figures}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
