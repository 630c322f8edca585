"""List rules inside the join: each against a greedy choice from the sorted catalogue."""

import uuid
from datetime import date
from functools import partial

import numpy as np
import pytest

from recsys_spark.arrays.vectors import unit_rows
from recsys_spark.blocks.steps.block_files import write_item_blocks
from recsys_spark.publish.changes import changed_keys
from recsys_spark.recommend.incremental import merged_lists, users_changed, users_to_recompute, with_floors
from recsys_spark.topk.join import join_blocks, list_rows, users_with_rules
from recsys_spark.topk.kernels.mmr import mmr_order
from recsys_spark.topk.lists import ListRules
from recsys_spark.topk.rules import items_as_users, items_with_rules

ITEM_DDL = (
    "item_id string, embedding array<float>, match_key string, quota_group bigint, boost float, "
    "available_from date, available_until date"
)
DAY = date(2024, 5, 1)
KEYS, GROUPS = ["de", "fr", None], [1, 2, 3, None]


def collected(frame):
    return sorted((tuple(row) for row in frame.collect()), key=lambda row: (row[0], row[3]))


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    scratch = tmp_path_factory.mktemp("blocks")

    def packed(items, rows=7, tasks=2, **options):
        return write_item_blocks(items, str(scratch / uuid.uuid4().hex), rows, tasks=tasks, **options)

    return packed


class Shop:
    """40 items with all columns that rules read, 12 users, and their seen items."""

    def __init__(self, spark, seed=3):
        random = np.random.default_rng(seed)
        self.spark = spark
        self.users = {f"u{n:02}": random.integers(-2, 3, 4).tolist() for n in range(12)}
        self.users = {user: vector if any(vector) else [1, 0, 0, 0] for user, vector in self.users.items()}
        self.user_keys = {user: KEYS[n % 3] for n, user in enumerate(self.users)}
        self.items = []
        for n in range(40):
            vector = random.integers(-2, 3, 4).tolist()
            attributes = KEYS[random.integers(3)], GROUPS[random.integers(4)], [0.25, -0.5, None][random.integers(3)]
            window = [None, date(2024, 4, 30), DAY, date(2024, 5, 2)]
            dates = window[random.integers(4)], window[random.integers(4)]
            self.items.append((f"i{n:02}", vector if any(vector) else [0, 1, 0, 0], *attributes, *dates))
        self.seen = {(f"u{u:02}", f"i{i:02}") for u, i in random.integers(0, 40, (150, 2)) if u < 12}
        self.allowed = {("u03", f"i{n:02}") for n in range(0, 40, 3)} | {("u05", "withdrawn")}

    def profiles(self):
        rows = [(u, [float(x) for x in v], self.user_keys[u]) for u, v in self.users.items()]
        return self.spark.createDataFrame(rows, "user_id string, embedding array<float>, match_key string")

    def catalogue(self):
        rows = [(i, [float(x) for x in v], *rest) for i, v, *rest in self.items]
        return self.spark.createDataFrame(rows, ITEM_DDL).repartition(3)

    def pairs(self, pairs):
        return self.spark.createDataFrame(sorted(pairs), "user_id string, item_id string")

    def brute_force(self, k, rules):
        lists = []
        for user, profile in self.users.items():
            scores = {}
            for item, vector, key, group, boost, since, until in self.items:
                bonus = np.float32(boost or 0) if rules.boosts else np.float32(0)
                both = unit_rows(np.array([profile, vector], np.float64)).astype(np.float64)
                score = np.float32((both[0] * both[1]).sum() + np.float64(bonus))
                only = {i for u, i in self.allowed if u == user}
                eligible = (user, item) not in self.seen and (not only or item in only)
                if rules.keyed:
                    eligible &= key is not None and key == self.user_keys[user]
                if rules.run_date:
                    eligible &= (since is None or since <= DAY) and (until is None or until >= DAY)
                if rules.min_score is not None:
                    eligible &= bool(score >= np.float32(rules.min_score))
                if eligible:
                    scores[item] = (score, group)
            chosen, counts = [], {}
            for item in sorted(scores, key=lambda item: (-scores[item][0], item)):
                score, group = scores[item]
                if rules.quota and group is not None and counts.get(group, 0) >= rules.quota:
                    continue
                counts[group] = counts.get(group, 0) + 1
                chosen.append((item, float(score)))
            lists += [(user, item, score, rank) for rank, (item, score) in enumerate(chosen[:k], 1)]
        return lists


RULES = {
    "none": ListRules(),
    "availability": ListRules(run_date=DAY),
    "equal keys": ListRules(keyed=True),
    "quota": ListRules(quota=2),
    "boost": ListRules(boosts=True),
    "least score": ListRules(min_score=0.3),
    "all": ListRules(min_score=-0.2, quota=1, boosts=True, run_date=DAY, keyed=True),
}


@pytest.fixture(scope="module")
def shop(spark):
    return Shop(spark)


@pytest.fixture(scope="module")
def blocks(shop, pack):
    return pack(shop.catalogue())


# No rule and all of them; each by itself with --slow, and in the kernels.
@pytest.mark.parametrize(
    "rules",
    [pytest.param(rules, marks=[] if name in ("none", "all") else pytest.mark.slow) for name, rules in RULES.items()],
    ids=RULES,
)
def test_each_rule_equals_a_greedy_choice_from_the_sorted_catalogue(shop, blocks, rules):
    seen, allowed = shop.pairs(shop.seen), shop.pairs(shop.allowed)
    lists = join_blocks(shop.profiles(), blocks, 6, seen=seen, allowed=allowed, rules=rules, user_block_rows=5, tasks=2)
    assert collected(lists) == shop.brute_force(6, rules)


def test_probing_all_clusters_is_the_exact_join_and_fewer_give_its_scores(shop, pack, blocks):
    centroids = unit_rows(np.random.default_rng(1).normal(size=(5, 4)))
    clustered = pack(shop.catalogue(), centroids=centroids)
    assert (clustered.rows, clustered.clusters) == (blocks.rows, 5)
    rules = ListRules(nprobe=5, quota=2, boosts=True)
    whole = collected(join_blocks(shop.profiles(), clustered, 6, rules=rules, tasks=2))
    exact = collected(join_blocks(shop.profiles(), blocks, 6, rules=ListRules(quota=2, boosts=True), tasks=2))
    assert whole == exact
    every = {row[:2]: row[2] for row in collected(join_blocks(shop.profiles(), blocks, 40, tasks=1))}
    approximate = collected(join_blocks(shop.profiles(), clustered, 6, rules=ListRules(nprobe=1), tasks=1))
    assert approximate
    assert all(every[row[:2]] == row[2] for row in approximate)


def test_an_item_is_no_neighbour_of_itself(shop, blocks):
    transform = list_rows(blocks, 3)
    users = users_with_rules(items_as_users(shop.catalogue()), None, None, 2)
    ddl = "user_id string, item_id string, score float, rank int"
    rows = users.mapInArrow(lambda batches: transform(batches, {}), ddl).collect()
    assert len(rows) == 3 * 40
    assert not [row for row in rows if row["user_id"] == row["item_id"]]


def test_diversity_lists_the_best_item_and_then_the_most_different_ones(shop, blocks):
    rules = ListRules(diversity=0.5, diversify_from=12)
    lists = collected(join_blocks(shop.profiles(), blocks, 4, rules=rules, user_block_rows=5, tasks=2))
    candidates = collected(join_blocks(shop.profiles(), blocks, 12, tasks=2))
    vectors = {item: unit_rows(np.array([v], np.float64))[0] for item, v, *_ in shop.items}
    expected = []
    for user in shop.users:
        rows = [row for row in candidates if row[0] == user]
        candidate_vectors = np.array([vectors[row[1]] for row in rows])
        order = mmr_order(np.array([row[2] for row in rows], np.float32), candidate_vectors, 0.5, 4)
        expected += [(*rows[position][:3], rank) for rank, position in enumerate(order, 1)]
    assert lists == expected
    assert lists != collected(join_blocks(shop.profiles(), blocks, 4, tasks=2))


def test_an_incremental_join_equals_the_full_one(spark, shop, pack):
    later = Shop(spark)
    later.items = [row for row in later.items if row[0] != "i07"]  # withdrawn
    later.items[3] = (later.items[3][0], [2, 2, 1, 0], *later.items[3][2:])  # another vector
    later.items[9] = (*later.items[9][:4], 0.75, *later.items[9][5:])  # another boost
    later.items.append(("i99", [1, 1, 1, 1], "de", None, 0.5, None, None))  # new
    later.users = later.users | {"u01": [0, 0, 1, 0], "u77": [1, -1, 0, 0]}  # changed and new
    later.user_keys["u77"] = "de"
    del later.users["u02"]
    later.seen = later.seen | {("u04", "i20")}
    rules, k = ListRules(boosts=True), 5
    before, after = pack(shop.catalogue()), pack(later.catalogue())
    stored = join_blocks(shop.profiles(), before, k, seen=shop.pairs(shop.seen), rules=rules, tasks=2).localCheckpoint()
    changed_items = changed_keys(shop.catalogue(), later.catalogue(), "item_id").localCheckpoint()
    assert sorted(row[0] for row in changed_items.collect()) == ["i03", "i07", "i10", "i99"]
    users = changed_keys(shop.profiles(), later.profiles(), "user_id")
    changed_seen = changed_keys(*(_seen_sets(s) for s in (shop, later)), "user_id")
    redo = users_to_recompute(stored, users.unionByName(changed_seen), changed_items).localCheckpoint()
    assert redo.count() < len(later.users)
    fresh = pack(later.catalogue().join(changed_items, on="item_id", how="left_semi"))
    seen = later.pairs(later.seen)
    join = partial(join_blocks, k=k, seen=seen, rules=rules, tasks=2)
    again = join(later.profiles().join(redo, on="user_id", how="left_semi"), after)
    newcomers = join(with_floors(later.profiles(), stored, redo, k), fresh).localCheckpoint()
    assert 0 < newcomers.count() < join(later.profiles(), fresh).count() / 2
    stand = stored.join(users_changed(redo, newcomers), on="user_id", how="left_anti")
    lists = merged_lists(stored, again, newcomers, k).unionByName(stand)
    assert collected(lists) == collected(join_blocks(later.profiles(), after, k, seen=seen, rules=rules, tasks=2))


def _seen_sets(shop):
    from pyspark.sql import functions as F

    return shop.pairs(shop.seen).groupBy("user_id").agg(F.sort_array(F.collect_set("item_id")).alias("seen"))


def test_rule_columns_come_from_the_items_table(spark):
    vectors = spark.createDataFrame(
        [("a", [1.0]), ("b", [2.0]), ("c", [3.0])], "item_id string, embedding array<float>"
    )
    rows = [("a", ["x", "y"], "ada", "de", 0.5, DAY, None), ("b", ["y"], "ada", None, None, None, DAY)]
    ddl = (
        "item_id string, category array<string>, brand string, locale string, boost float, "
        "available_from date, available_until date"
    )
    items = spark.createDataFrame(rows, ddl)
    by_brand = {row["item_id"]: row for row in items_with_rules(vectors, items, "locale", "brand").collect()}
    assert by_brand["a"]["quota_group"] == by_brand["b"]["quota_group"] >= 0
    assert (by_brand["a"]["match_key"], by_brand["a"]["boost"], by_brand["a"]["available_from"]) == ("de", 0.5, DAY)
    assert by_brand["c"]["quota_group"] is None
    by_category = {row["item_id"]: row for row in items_with_rules(vectors, items, None, "category").collect()}
    assert by_category["a"]["quota_group"] == by_category["b"]["quota_group"] != by_brand["a"]["quota_group"]
    assert "match_key" not in items_with_rules(vectors, items, None, None).columns
