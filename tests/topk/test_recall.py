"""The recall of an approximate join: the estimate, and the runs that report it."""

import json
import os
import shutil
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from deltalake import DeltaTable

from recsys_spark.blocks.item_blocks import BLOCK_FORMAT
from recsys_spark.lake.lake import Lake
from recsys_spark.recommend.options import TopKOptions
from recsys_spark.recommend.steps import approximate
from recsys_spark.recommend.steps.recommend_items import recommend_items
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress, tasks_and_time
from recsys_spark.tables.schemas import (
    EVENTS,
    ITEM_NEIGHBORS,
    ITEM_VECTORS,
    ITEMS,
    RECOMMENDATIONS,
    USER_PROFILES,
    USER_RULES,
)
from recsys_spark.topk.options import NeighborOptions
from recsys_spark.topk.recall import estimated, strata, with_strata
from recsys_spark.topk.steps.find_neighbors import find_neighbors
from tests.bench.stored_rows import commit_rows

DAY = date(2024, 5, 1)


def test_the_estimate_weighs_strata_by_their_users():
    shares = [(0, 1.0)] * 10 + [(3, 0.5)] * 10
    recall = estimated(shares, {0: 900, 3: 100})
    assert recall.mean == pytest.approx(0.95)
    assert recall.users == 20
    assert recall.low == pytest.approx(0.95 - 3 / 20 * 0.98), "equal shares do not prove that all others are equal"
    assert recall.high == 1.0
    assert estimated([(0, 1.0)] * 400, {0: 10**6}).low == pytest.approx(1 - 3 / 400, rel=1e-3)


def test_the_interval_contains_the_true_recall_at_its_confidence():
    random = np.random.default_rng(5)
    population = {0: random.beta(30, 1, 3000), 1: random.beta(9, 1, 500), 4: random.beta(3, 1, 60)}
    sizes = {number: len(values) for number, values in population.items()}
    truth = np.concatenate(list(population.values())).mean()
    hits = 0
    for _ in range(300):
        shares = [(n, x) for n, v in population.items() for x in random.choice(v, 50, replace=False).tolist()]
        recall = estimated(shares, sizes)
        hits += recall.low <= truth <= recall.high
    assert 270 <= hits <= 298  # 95 % of 300 is 285


def test_a_wholly_sampled_stratum_has_no_interval_and_an_empty_sample_recall_1():
    recall = estimated([(0, 0.25), (0, 0.75)], {0: 2})
    assert (recall.mean, recall.low, recall.high) == (0.5, 0.5, 0.5)
    assert estimated([], {}) == estimated([], {0: 9})
    assert estimated([], {}).mean == 1.0


def test_rare_strata_are_sampled_as_much_as_frequent_ones(spark):
    rows = [(f"u{n}", 0 if n % 20 else 9) for n in range(4000)]
    profiles = spark.createDataFrame(rows, "user_id string, events bigint")
    sizes = {row["stratum"]: row["users"] for row in strata(profiles).collect()}
    assert sizes == {0: 3800, 3: 200}
    sampled = with_strata(profiles, sizes, 200).groupBy("stratum").count().collect()
    counts = {row["stratum"]: row["count"] for row in sampled}
    assert 60 < counts[0] < 140
    assert 60 < counts[3] < 140
    assert with_strata(profiles, {}, 200).where("stratum IS NOT NULL").count() == 0


class Bench:
    def __init__(self, spark, folder, users=60, items=300):
        self.spark, self.run = spark, Run("recommend_items", Lake(str(folder / "lake")), Progress())
        random = np.random.default_rng(2)
        self.put(ITEM_VECTORS, [(f"i{n:03}", "m-1", v) for n, v in enumerate(random.normal(size=(items, 6)).tolist())])
        profiles = random.normal(size=(users, 6)).tolist()
        self.put(USER_PROFILES, [(f"u{n:02}", "m-1", v, n, None, None) for n, v in enumerate(profiles)])
        self.put(EVENTS, [])

    def put(self, table, rows):
        full = [row + (None,) * (len(table.columns) - len(row)) for row in rows]
        commit_rows(self.run.lake, table, full, f"{table.name} {rows[:1]} {len(rows)}")

    def lists(self, **options):
        report = recommend_items(
            self.run, TopKOptions(lake=self.run.lake.uri, run_date=DAY, k=5, scorer="cosine", **options)
        )
        rows = self.run.lake.read(self.spark, RECOMMENDATIONS).orderBy("user_id", "rank").collect()
        return report, [(row["user_id"], row["item_id"], row["score"]) for row in rows]


@pytest.fixture(scope="module")
def bench(spark, tmp_path_factory):
    return Bench(spark, tmp_path_factory.mktemp("recall"))


def test_an_approximate_run_reports_a_recall_that_a_full_check_confirms(bench):
    _, exact = bench.lists()
    options = {"approximate": True, "clusters": 12, "nprobe": 2, "recall_users": 600}
    report, lists = bench.lists(target_recall=0.5, **options)
    true = len({row[:2] for row in lists} & {row[:2] for row in exact}) / len(exact)
    assert report["recall"]["mean"] == pytest.approx(true, abs=1e-4)  # all 60 users are in the sample
    assert report["recall"]["users"] == 60
    assert 0.5 <= true < 1


@pytest.mark.slow
def test_below_the_target_more_clusters_are_probed_and_at_last_all(bench, capsys):
    _, exact = bench.lists()
    report, found = bench.lists(approximate=True, clusters=12, nprobe=2, recall_users=60, target_recall=1.0)
    assert [attempt["nprobe"] for attempt in report["recall"]["attempts"]][:3] == [2, 3, 5]
    assert report["recall"]["mean"] == 1.0
    assert found == exact
    assert "is below 1.0" in capsys.readouterr().err
    uri = bench.run.lake.table_uri(RECOMMENDATIONS)
    versions = range(bench.run.lake.version(RECOMMENDATIONS) + 1)
    named = {file for version in versions for file in DeltaTable(uri, version=version).file_uris()}
    assert {str(path) for path in Path(uri).glob("*.parquet")} == named, "failed attempts leave no files"


def test_an_empty_sample_makes_the_join_exact(bench, monkeypatch):
    with_sample = approximate.with_strata
    monkeypatch.setattr(approximate, "with_strata", lambda profiles, sizes, users: with_sample(profiles, sizes, 0))
    report, found = bench.lists(approximate=True, clusters=12, nprobe=1, recall_users=60, target_recall=0.9)
    assert report["recall"]["nprobe"] == 0
    assert found == bench.lists()[1]


def test_blocks_are_written_once_and_removed_when_no_run_has_used_them_for_long(bench):
    folder = Path(bench.run.lake.uri) / "_blocks" / "recommendations"
    others = set(folder.iterdir()) if folder.exists() else set()
    bench.lists(min_score=0.1, item_block_rows=60)
    [first] = set(folder.iterdir()) - others
    assert first.name.startswith(f"v{BLOCK_FORMAT}-"), "blocks of another format are in other folders"
    before = {path: path.stat().st_mtime_ns for path in first.iterdir() if path.name != "used"}
    bench.lists(min_score=0.2, item_block_rows=60)
    assert {path: path.stat().st_mtime_ns for path in first.iterdir() if path.name != "used"} == before
    bench.lists(item_block_rows=50)
    assert len(set(folder.iterdir()) - others) == 2  # another run may be reading the first
    for path in first.rglob("*"):
        os.utime(path, (0, 0))
    bench.lists(min_score=0.3, item_block_rows=40)
    remaining = set(folder.iterdir()) - others
    assert first not in remaining
    assert len(remaining) == 2
    assert {json.loads((path / "blocks.json").read_text())["rows"] for path in remaining} == {300}


def test_deny_allow_quota_and_availability_hold_in_the_job(spark, tmp_path):
    shop = Bench(spark, tmp_path, users=3, items=12)
    yesterday = date(2024, 4, 30)
    brands = [(f"i{n:03}", None, None, None, None, f"b{n % 2}", None, "de", None, None, None) for n in range(11)]
    shop.put(ITEMS, [*brands, ("i011", None, None, None, None, "b1", None, "de", None, yesterday, None)])
    shop.put(USER_RULES, [("u00", "i001", "deny"), ("u01", "i002", "allow"), ("u01", "i004", "allow")])
    report, lists = shop.lists(quota=2)
    of = {user: [item for owner, item, _ in lists if owner == user] for user in ("u00", "u01", "u02")}
    assert "i001" not in of["u00"]
    assert sorted(of["u01"]) == ["i002", "i004"]
    assert len(of["u00"]) == len(of["u02"]) == 4  # two of either brand
    assert not [item for _, item, _ in lists if item == "i011"]
    assert report["unfilled_slots"] == 3 + 1 + 1
    again, _ = shop.lists(quota=2)
    assert again["status"] == "unchanged"
    shop.put(USER_RULES, [("u02", of["u02"][0], "deny")])
    assert of["u02"][0] not in [item for user, item, _ in shop.lists(quota=2)[1] if user == "u02"]


def test_find_neighbors_publishes_every_item_but_itself(bench):
    report = find_neighbors(bench.run, NeighborOptions(lake=bench.run.lake.uri, k=4))
    assert report["tables"] == {"item_neighbors": 1200}
    rows = bench.run.lake.read(bench.spark, ITEM_NEIGHBORS).collect()
    assert not [row for row in rows if row["item_id"] == row["neighbor_id"]]
    assert {row["model"] for row in rows} == {"m-1"}
    again = find_neighbors(bench.run, NeighborOptions(lake=bench.run.lake.uri, k=4))
    assert again["status"] == "unchanged"


def test_progress_says_how_long_it_will_take():
    assert tasks_and_time(0, 62, 10) == "0/62 tasks"
    assert tasks_and_time(12, 62, 60) == "12/62 tasks, about 4 min left"
    assert tasks_and_time(60, 62, 300) == "60/62 tasks, about 10 s left"
    assert tasks_and_time(62, 62, 300) == "62/62 tasks"
    assert tasks_and_time(0, 0, 1) == ""


@pytest.mark.slow
def test_a_table_dropped_and_created_again_at_the_same_version_is_another_table(spark, tmp_path):
    shop = Bench(spark, tmp_path, users=3, items=12)
    _, first = shop.lists()
    shutil.rmtree(tmp_path / "lake" / ITEM_VECTORS.name)
    shop.put(ITEM_VECTORS, [(f"j{n}", "m-1", [1.0, float(n), 0.0, 0.0, 0.0, 1.0]) for n in range(6)])
    assert shop.run.lake.version(ITEM_VECTORS) == 0
    report, second = shop.lists()
    assert report["status"] == "done"
    assert {item for _, item, _ in second}.isdisjoint(item for _, item, _ in first)


@pytest.mark.slow
def test_an_approximate_run_without_a_usable_item_has_empty_lists(spark, tmp_path):
    shop = Bench(spark, tmp_path, users=3, items=1)
    shop.put(ITEM_VECTORS, [("none", "m-1", [0.0] * 6)])
    report, lists = shop.lists(approximate=True)
    assert (lists, report["unfilled_slots"], report["items"]) == ([], 15, 0)


@pytest.mark.slow
def test_smaller_blocks_are_other_blocks_for_neighbours(bench):
    folder = Path(bench.run.lake.uri) / "_blocks" / "item_neighbors"
    find_neighbors(bench.run, NeighborOptions(lake=bench.run.lake.uri, k=3))
    whole = [path.name for path in folder.iterdir()]
    find_neighbors(bench.run, NeighborOptions(lake=bench.run.lake.uri, k=2, item_block_rows=40))
    [smaller] = [path for path in folder.iterdir() if path.name not in whole]
    assert json.loads((smaller / "blocks.json").read_text())["block_rows"] == 40


def test_neighbors_of_the_same_category_that_are_available(spark, tmp_path):
    run = Run("find_neighbors", Lake(str(tmp_path)), Progress())
    kinds = {"a": ["x", "tea"], "b": ["tea"], "c": ["tea"], "d": ["x"], "e": None}
    last_days = {"c": date(2024, 1, 1)}
    sources = {
        ITEM_VECTORS: [(item, "m-1", [1.0, n / 10]) for n, item in enumerate(kinds)],
        ITEMS: [(i, *[None] * 3, kind, *[None] * 4, last_days.get(i), None, None) for i, kind in kinds.items()],
    }
    for table, rows in sources.items():
        commit_rows(run.lake, table, rows, "sources")

    def neighbors(**options):
        assert find_neighbors(run, NeighborOptions(lake=run.lake.uri, **options))["status"] == "done"
        return {(row["item_id"], row["neighbor_id"]) for row in run.lake.read(spark, ITEM_NEIGHBORS).collect()}

    everything = {(one, other) for one in kinds for other in kinds if one != other}
    tea = {(one, other) for one in "abc" for other in "abc" if one != other}
    assert neighbors() == everything
    assert neighbors(match_on="category") == tea
    assert neighbors(run_date=date(2024, 3, 1)) == {pair for pair in everything if pair[1] != "c"}
    assert neighbors(match_on="category", run_date=date(2024, 3, 1)) == {pair for pair in tea if pair[1] != "c"}
