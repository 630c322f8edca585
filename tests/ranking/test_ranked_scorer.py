"""Ranked lists and their examples through Spark, against slow lines over plain Python."""

import math
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from pyspark.sql import functions as F

from recsys_spark.blocks.steps.block_files import write_item_blocks
from recsys_spark.ranking.candidate_search import ITEM_COLUMNS
from recsys_spark.ranking.inputs import all_users, example_users, ranked_items, ranked_users
from recsys_spark.ranking.kernels.features import FEATURES, HALF_LIVES
from recsys_spark.ranking.kernels.rankers import Ranker
from recsys_spark.ranking.ranked_scorer import EXAMPLE_DDL, RankedScorerFactory, example_rows
from recsys_spark.ranking.statistics import item_features, user_item_statistics
from recsys_spark.tables.contract import REASONS
from recsys_spark.tables.schemas import ANYONE
from recsys_spark.topk.join import list_rows, users_with_rules
from recsys_spark.topk.lists import ListRules

CUT = date(2024, 5, 1)
ITEMS, USERS = [f"i{n:02}" for n in range(12)], [f"u{n}" for n in range(8)]
EVENT_DDL = "user_id string, item_id string, event_type string, timestamp timestamp, value double"


def positive():
    return F.col("event_type") == "purchase"


def log(seed=3):
    """Purchases and views of most users before and after the cut; u7 comes after it, u6 never."""
    random, midnight = np.random.default_rng(seed), datetime(2024, 5, 1, tzinfo=UTC)
    rows = []
    for _ in range(90):
        user, item, hours = random.integers(0, 6), random.integers(0, 10), float(random.exponential(600)) - 200
        kind = "purchase" if random.random() < 0.8 else "view"
        rows.append((USERS[user], ITEMS[item], kind, midnight - timedelta(hours=hours), None))
    return [*rows, ("u7", "i03", "purchase", midnight + timedelta(hours=5), None)]


class World:
    """The shop as of the cut, in Spark and in plain Python."""

    def __init__(self, spark, folder, rows):
        self.rows = rows
        events = spark.createDataFrame(rows, EVENT_DDL)
        earlier = events.where(F.col("timestamp") < F.lit(str(CUT)).cast("timestamp"))
        pairs = user_item_statistics(earlier, CUT, positive())
        random = np.random.default_rng(0)
        self.weight = {(i, j): float(np.float32(random.random())) for i in ITEMS for j in ITEMS if i != j}
        weights = spark.createDataFrame(
            [(i, j, w) for (i, j), w in self.weight.items()], "item_id string, neighbor_id string, weight float"
        )
        items = spark.createDataFrame(
            [(i, i.upper(), None, None) for i in ITEMS],
            "item_id string, title string, available_from date, available_until date",
        )
        self.vectors = {item: random.standard_normal(3).astype(np.float32) for item in ITEMS[:-1]}
        vectors = spark.createDataFrame(
            [(item, vector.tolist()) for item, vector in self.vectors.items()], "item_id string, embedding array<float>"
        )
        rows = ranked_items(items, vectors, weights, pairs, 2)
        self.blocks = write_item_blocks(rows, str(folder), 5, tasks=2, extra_columns=ITEM_COLUMNS)
        history = pairs.groupBy("user_id").agg(
            F.array_sort(F.collect_list(F.struct(F.xxhash64("item_id").alias("c"), F.lit(1.0).alias("w")))).alias("h")
        )
        history = history.select("user_id", F.col("h.c").alias("history"), F.col("h.w").alias("history_weights"))
        ids = all_users(spark.createDataFrame([("u6",), ("u1",)], "user_id string"), earlier)
        self.users = ranked_users(ids, pairs, history)
        self.wanted = example_users(events, CUT, positive(), 100, 0)
        self.examples = ranked_users(self.wanted, pairs, history)

    def had(self, user):
        """item → (age in days, whether positive) of the events before the cut."""
        ages = defaultdict(list)
        for who, item, kind, time, _ in self.rows:
            if who == user and time.date() < CUT:
                ages[item].append(((CUT - time.date()).days, kind == "purchase"))
        return ages

    def popularity(self, item, days):
        counts = {i: 0.0 for i in ITEMS}
        for _, one, kind, time, _ in self.rows:
            if time.date() < CUT and kind == "purchase":
                counts[one] += 2 ** (-(CUT - time.date()).days / days)
        return math.log((counts[item] + 0.001) / (max(counts.values()) + 0.001))

    def cosine(self, user, item):
        def unit(vector):
            return vector / (np.linalg.norm(vector) or 1)

        zero = np.zeros(3)
        profile = sum((unit(self.vectors.get(i, zero)) for i in self.had(user)), zero)
        return unit(profile) @ unit(self.vectors.get(item, zero)) if profile.any() else math.nan

    def score(self, user, item, decay=1.0):
        had = self.had(user)
        last = {other: min(age for age, _ in events) for other, events in had.items()}
        newer = {other: len({age for age in last.values() if age < last[other]}) for other in had}
        return sum(self.weight[item, other] * decay ** newer[other] for other in had if other != item)


@pytest.fixture(scope="module")
def world(spark, tmp_path_factory):
    return World(spark, tmp_path_factory.mktemp("blocks"), log())


def lists_of(world, ranker, tasks, rows, k=12, seen=None):
    transform = list_rows(world.blocks, k, ListRules(), rows, scorer=RankedScorerFactory(ranker, 3))
    users = users_with_rules(world.users, seen, None, tasks)
    columns = ["user_id", "item_id", "score", "rank", "source"]
    ddl = "user_id string, item_id string, score float, rank int, source string"
    frame = users.mapInArrow(lambda batches: (b.select(columns) for b in transform(batches, {})), ddl)
    found = defaultdict(list)
    for row in frame.orderBy("user_id", "rank").collect():
        found[row["user_id"]].append((row["item_id"], row["score"], row["source"]))
    return dict(found)


def examples_of(world, tasks=2):
    transform = example_rows(world.blocks, 3, ListRules(), 0)
    users = users_with_rules(world.examples, None, None, tasks)
    names = {code: name for name in [*ITEMS, *USERS] for code in [_code(world, name)]}
    rows = users.mapInArrow(lambda batches: transform(batches, {}), EXAMPLE_DDL).collect()
    return {(names[row["user"]], names[row["item"]]): row for row in rows}


def _code(world, name):
    return world.users.sparkSession.range(1).select(F.xxhash64(F.lit(name))).first()[0]


def test_every_user_has_a_list_of_popular_own_and_similar_items(world):
    found = lists_of(world, Ranker("popularity_30"), 2, 3)
    assert found.keys() == {*USERS[:6], "u6", ANYONE}
    popular = set()
    for days in (7, 30, 90):
        popular |= set(sorted(ITEMS, key=lambda item: -world.popularity(item, days))[:2])
    for user in found:
        own = world.had(user)
        similar = [item for item in ITEMS if world.score(user, item) > 0]
        best = sorted(similar, key=lambda i: -world.score(user, i))[:3]
        best += sorted(similar, key=lambda i: -world.score(user, i, 2 ** (-1 / 3)))[:3]
        listed = [item for item, _, _ in found[user]]
        assert set(listed) == popular | set(own) | set(best)
        assert listed == sorted(listed, key=lambda item: -world.popularity(item, 30))
        sources = {item: source for item, _, source in found[user]}
        for item in listed:
            expected = "own" if item in own else "similar" if world.score(user, item) > 0 else "popular"
            assert sources[item] == expected


def test_lists_do_not_depend_on_partitions_and_batches(world):
    ranker = Ranker("hybrid")
    assert lists_of(world, ranker, 1, 100) == lists_of(world, ranker, 3, 1)


def test_seen_items_are_left_out_where_lists_mask_them(world, spark):
    pairs = [(user, item) for user in USERS for item in world.had(user)]
    seen = spark.createDataFrame(pairs, "user_id string, item_id string")
    for user, rows in lists_of(world, Ranker("popularity_30"), 2, 3, seen=seen).items():
        assert rows
        assert not {item for item, _, _ in rows} & set(world.had(user))


def test_features_of_examples_equal_slow_ones(world):
    found = examples_of(world)
    assert {user for user, _ in found} >= {"u7"}
    for (user, item), row in found.items():
        value = dict(zip(FEATURES, row["features"], strict=True))
        for days in HALF_LIVES[1:]:
            assert value[f"popularity_{days}"] == pytest.approx(world.popularity(item, days), rel=1e-4, abs=1e-4)
        assert value["score"] == pytest.approx(world.score(user, item), rel=1e-5)
        assert value["score_recent"] == pytest.approx(world.score(user, item, 2 ** (-1 / 3)), rel=1e-5)
        assert value["text"] == pytest.approx(world.cosine(user, item), abs=1e-5, nan_ok=True)
        own = world.had(user).get(item, [])
        assert row["had"] == bool(own)
        positive = [age for age, is_positive in own if is_positive]
        assert value["own_30"] == pytest.approx(sum(2 ** (-age / 30) for age in positive), abs=1e-4)
        assert (value["own_quiet"] == min(age for age, _ in own)) if own else math.isnan(value["own_quiet"])
        later = {i for who, i, kind, time, _ in world.rows if who == user and time.date() >= CUT and kind == "purchase"}
        assert row["relevant"] == (item in later)
        assert row["wanted"] == len(later)
        assert row["wanted_new"] == len(later - world.had(user).keys())


def test_before_the_first_event_items_have_features_and_none_is_popular(spark):
    items = spark.createDataFrame(
        [("a", None, None, "A")], "item_id string, available_from date, available_until date, title string"
    )
    none = user_item_statistics(spark.createDataFrame([], EVENT_DDL), CUT, positive())
    row = item_features(items, none).first()
    assert None not in row["features"]
    assert row["popularity"] is None


def test_no_feature_knows_an_event_after_the_cut(world, spark, tmp_path):
    """A planted leak: a week of purchases of one item after the cut changes labels, and no feature."""
    after = datetime(2024, 5, 2, tzinfo=UTC)
    planted = [(user, "i09", "purchase", after + timedelta(hours=n), None) for n, user in enumerate(USERS[:5])]
    other = examples_of(World(spark, tmp_path / "blocks", [*world.rows, *planted]))
    found = examples_of(world)
    shared = found.keys() & other.keys()
    assert len(shared) > 20
    for pair in shared:
        np.testing.assert_equal(found[pair]["features"], other[pair]["features"])
    assert sum(other[pair]["relevant"] for pair in other if pair[1] == "i09") > 3


def test_features_of_lists_are_those_of_examples(world):
    """One function makes both: the score of a list by a single feature is this feature of the example."""
    found = examples_of(world)
    lists = lists_of(world, Ranker("hybrid"), 2, 3)
    checked = 0
    for user, rows in lists.items():
        for item, score, _ in rows:
            if (user, item) in found and found[user, item]["features"][FEATURES.index("score")] > 0:
                assert score == np.float32(2 + np.float32(found[user, item]["features"][FEATURES.index("score")]))
                checked += 1
    assert checked > 10


def test_reasons_add_up_to_the_score_and_name_the_item_that_adds_most(world):
    settings = RankedScorerFactory(Ranker("hybrid"), 3, reasons=2)
    transform = list_rows(world.blocks, 12, ListRules(), 3, scorer=settings)
    users = users_with_rules(world.users, None, None, 2)
    ddl = f"user_id string, item_id string, score float, rank int, reasons {REASONS}, source string"
    rows = users.mapInArrow(lambda batches: transform(batches, {}), ddl).collect()
    assert {reason["kind"] for row in rows for reason in row["reasons"]} >= {"history", "popular"}
    for row in rows:
        assert math.fsum(reason["contribution"] for reason in row["reasons"]) == pytest.approx(row["score"], abs=1e-5)
        for reason in row["reasons"]:
            if reason["kind"] == "history":
                own = {other: world.weight[row["item_id"], other] for other in world.had(row["user_id"])
                       if other != row["item_id"]}  # fmt: skip
                assert reason["item_id"] == max(own, key=own.get)
                assert reason["sentence"] == f"because you chose {reason['item_id'].upper()}"
