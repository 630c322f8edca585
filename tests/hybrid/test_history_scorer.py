"""Item weights and hybrid lists through Spark: each against a few slow lines over plain Python."""

import math
import uuid
from collections import Counter, defaultdict
from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from recsys_spark.arrays.vectors import unit_rows
from recsys_spark.blocks.steps.block_files import write_item_blocks
from recsys_spark.hybrid import item_weights
from recsys_spark.hybrid.history_scorer import WEIGHT_COLUMNS, HistoryScorer
from recsys_spark.hybrid.item_features import FEATURE_COLUMNS, item_features, sample_of_users, word_values
from recsys_spark.hybrid.item_weights import WEIGHTS_DDL, WeightFit, weight_rows
from recsys_spark.hybrid.sparse_histories import histories, weighted_items
from recsys_spark.hybrid.steps.fit_item_weights import parts_of
from recsys_spark.topk.join import RESULT_DDL, list_rows, users_with_rules
from recsys_spark.topk.lists import ListRules, locate_items
from recsys_spark.topk.rules import items_with_rules

DAY = date(2024, 5, 1)
TEXTS = ["Red wool scarf, red", "blue wool hat", "Steel pan", "steel pot; pan", None, "a", "Wool socks red", "pot lid"]


class Shop:
    """Items with texts, vectors and users; some lack one of them."""

    def __init__(self, spark, items=24, users=30, seed=1):
        random = np.random.default_rng(seed)
        self.spark, self.ids = spark, [f"i{n:02}" for n in range(items)]
        self.texts = {item: TEXTS[n % len(TEXTS)] for n, item in enumerate(self.ids)}
        self.vectors = {item: unit_rows(random.standard_normal((1, 4)))[0] for item in self.ids[:-3]}
        draws = random.integers(0, items - 2, (users, 5))
        self.had = {f"u{u:02}": sorted({self.ids[i] for i in row}) for u, row in enumerate(draws)}

    def items(self):
        return self.spark.createDataFrame(list(self.texts.items()), "item_id string, text string")

    def pairs(self):
        rows = [(user, item) for user, items in self.had.items() for item in items]
        return self.spark.createDataFrame(rows * 2, "user_id string, item_id string").repartition(3)

    def features(self):
        rows = [(item, vector.tolist()) for item, vector in self.vectors.items()]
        vectors = self.spark.createDataFrame(rows, "item_id string, embedding array<float>")
        return item_features(self.items(), self.pairs(), vectors, 4)


@pytest.fixture(scope="module")
def shop(spark):
    return Shop(spark)


@pytest.fixture(scope="module")
def fitted(shop, tmp_path_factory):
    scratch = tmp_path_factory.mktemp("blocks")

    def fit(options, rows=5, tasks=3, at_once=4):
        uri = str(scratch / uuid.uuid4().hex)
        blocks = write_item_blocks(shop.features(), uri, rows, tasks=tasks, extra_columns=FEATURE_COLUMNS)
        transform = weight_rows(blocks, options, at_once)
        return parts_of(shop.spark, blocks).mapInArrow(lambda batches: transform(batches, {}), WEIGHTS_DDL)

    return fit


def tfidf(texts):
    words = {item: Counter(w for w in _words(text) if len(w) > 1) for item, text in texts.items() if text}
    words = {item: counts for item, counts in words.items() if counts}
    df = Counter(word for counts in words.values() for word in counts)
    values = {}
    for item, counts in words.items():
        row = {w: (1 + math.log(n)) * (math.log((1 + len(words)) / (1 + df[w])) + 1) for w, n in counts.items()}
        norm = math.sqrt(sum(x * x for x in row.values()))
        values[item] = {w: x / norm for w, x in row.items()}
    return values


def _words(text):
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()


def test_word_values_are_tf_idf_at_unit_length(shop):
    expected = tfidf(shop.texts)
    values_of = {row["item_id"]: sorted(row["word_values"]) for row in word_values(shop.items()).collect()}
    assert values_of.keys() == expected.keys()
    for item, values in values_of.items():
        np.testing.assert_allclose(values, sorted(expected[item].values()), rtol=1e-6)


def test_every_item_has_features_and_missing_ones_are_empty(shop):
    rows = {row["item_id"]: row for row in shop.features().collect()}
    assert rows.keys() == set(shop.ids)
    had = Counter(item for items in shop.had.values() for item in items)
    assert {item: len(row["users"]) for item, row in rows.items()} == {item: had[item] for item in shop.ids}
    assert rows["i04"]["words"] == []
    assert rows[shop.ids[-1]]["embedding"] == [0, 0, 0, 0]
    assert rows["i00"]["users"] == sorted(rows["i00"]["users"])


def test_weights_with_all_items_as_candidates_equal_the_dense_ridge(shop, fitted):
    fit = WeightFit(candidates=24, vector_weight=2.0, word_weight=3.0, ridge=4.0)
    weight_of = {(row["item_id"], row["neighbor_id"]): row["weight"] for row in fitted(fit).collect()}
    values, users = tfidf(shop.texts), sorted(shop.had)
    words = sorted({word for row in values.values() for word in row})
    z = {}
    for item in shop.ids:
        had = [float(item in shop.had[user]) for user in users]
        text = [math.sqrt(3.0) * values.get(item, {}).get(word, 0.0) for word in words]
        z[item] = np.array(had + text + list(math.sqrt(2.0) * shop.vectors.get(item, np.zeros(4))))
    warm = [item for item in shop.ids if any(item in items for items in shop.had.values())]
    for target in shop.ids:
        support = [item for item in warm if item != target and _related(shop, z, item, target)]
        if not support:
            continue
        matrix = np.array([z[item] for item in support]).reshape(len(support), -1)
        weights = np.linalg.solve(matrix @ matrix.T + 4.0 * np.eye(len(support)), matrix @ z[target])
        for item, weight in zip(support, weights, strict=True):
            assert weight_of.pop((target, item), 0) == pytest.approx(weight, rel=1e-4, abs=1e-6)
    assert not weight_of


def _related(shop, z, item, target):
    """Whether the candidate search can find the pair: by common users, or by vectors with a cosine above 0."""
    both = sum(item in items and target in items for items in shop.had.values())
    vectors = [shop.vectors.get(one) for one in (item, target)]
    return both > 0 or (vectors[0] is not None and vectors[1] is not None and float(vectors[0] @ vectors[1]) > 0)


def test_weights_do_not_depend_on_blocks_tasks_or_slices(fitted):
    fit = WeightFit(candidates=6, ridge=4.0)
    one, other = (sorted(tuple(row) for row in frame.collect()) for frame in (fitted(fit), fitted(fit, 24, 1, 24)))
    assert one == other


def test_a_slice_of_a_block_has_the_vectors_of_its_rows(spark, tmp_path):
    shop = Shop(spark, items=40, users=6)
    blocks = write_item_blocks(shop.features(), str(tmp_path / "blocks"), 40, tasks=1, extra_columns=FEATURE_COLUMNS)

    def rows(at_once):
        transform = weight_rows(blocks, WeightFit(candidates=5, ridge=4.0), at_once)
        frame = parts_of(spark, blocks).mapInArrow(lambda batches: transform(batches, {}), WEIGHTS_DDL)
        return sorted(map(tuple, frame.collect()))

    assert rows(1) == rows(40)


def test_targets_that_need_the_same_items_share_a_pass(shop, tmp_path, monkeypatch):
    blocks = write_item_blocks(shop.features(), str(tmp_path / "blocks"), 24, tasks=1, extra_columns=FEATURE_COLUMNS)
    requests = []

    def counted(passing, ordinals):
        requests.append(len(ordinals))
        return locate_items(passing, ordinals)

    def rows(candidates, at_once):
        requests.clear()
        transform = weight_rows(blocks, WeightFit(candidates, ridge=4.0), at_once)
        batches = transform(iter([pa.record_batch({"part": pa.array([0])})]), {})
        return sorted(tuple(row.values()) for batch in batches for row in batch.to_pylist()), list(requests)

    monkeypatch.setattr(item_weights, "locate_items", counted)
    assert rows(8, 2) == (rows(8, 24)[0], [24])
    few, passes = rows(1, 2)
    assert few == rows(1, 24)[0]
    assert len(passes) > 1
    assert max(passes) <= 2 * (3 * 1 + 1)


def test_a_share_of_the_users_keeps_them_whole(shop):
    sampled = sample_of_users(shop.pairs(), 0.5).select("user_id", "item_id").distinct().collect()
    by_user = defaultdict(list)
    for row in sampled:
        by_user[row["user_id"]].append(row["item_id"])
    assert 5 < len(by_user) < 25
    assert all(sorted(items) == shop.had[user] for user, items in by_user.items())
    assert sample_of_users(shop.pairs(), 1.0).count() == shop.pairs().count()


class Lists:
    """Weights, histories and all columns that rules read, and the lists by brute force."""

    def __init__(self, spark, seed=5):
        random = np.random.default_rng(seed)
        self.spark, items, users = spark, [f"i{n:02}" for n in range(20)], [f"u{n:02}" for n in range(12)]
        self.weights = [
            (item, other, float(random.integers(-4, 9)) / 4)
            for item in items
            for other in items
            if item != other and random.random() < 0.5
        ]
        self.history = {
            u: {i: float(random.integers(-2, 5)) / 2 for i in items if random.random() < 0.3} for u in users
        }
        self.seen = {(u, i) for u in users for i in items if random.random() < 0.2}
        self.allowed = {("u03", item) for item in items[::2]}
        self.keys = {one: [None, "de", "fr"][random.integers(3)] for one in [*items, *users]}
        self.brands = {item: [None, "a", "b"][random.integers(3)] for item in items}
        self.boosts = {item: [None, 0.5, -0.25][random.integers(3)] for item in items}
        self.until = {item: [None, date(2024, 4, 30), DAY][random.integers(3)] for item in items}
        self.items, self.users = items, users

    def brute_force(self, k, rules):
        lists = []
        for user in self.users:
            scores = {}
            for item in self.items:
                parts = [self.history[user].get(other, 0) * w for i, other, w in self.weights if i == item]
                reached = [o for i, o, w in self.weights if i == item and self.history[user].get(o, 0) != 0 and w != 0]
                score = sum(parts) + ((self.boosts[item] or 0) if rules.boosts else 0)
                if (
                    reached
                    and self.eligible(user, item, rules)
                    and (rules.min_score is None or score >= rules.min_score)
                ):
                    scores[item] = score
            chosen, brands = [], Counter()
            for item in sorted(scores, key=lambda i: (-scores[i], i)):
                if rules.quota and self.brands[item] and brands[self.brands[item]] >= rules.quota:
                    continue
                brands[self.brands[item]] += 1
                chosen.append(item)
            lists += [(user, item, scores[item], rank + 1) for rank, item in enumerate(chosen[:k])]
        return lists

    def eligible(self, user, item, rules):
        if (user, item) in self.seen or (user == "u03" and (user, item) not in self.allowed):
            return False
        if rules.keyed and (self.keys[user] is None or self.keys[user] != self.keys[item]):
            return False
        return not (rules.run_date and self.until[item] and self.until[item] < rules.run_date)

    def joined(self, tmp_path, k, rules, rows=6, tasks=2, user_rows=5):
        spark = self.spark
        pairs = [(u, i, w) for u, items in self.history.items() for i, w in items.items()]
        users = histories(spark.createDataFrame(pairs, "user_id string, item_id string, weight double").repartition(3))
        keys = spark.createDataFrame([(u, self.keys[u]) for u in self.users], "user_id string, match_key string")
        if rules.keyed:
            users = users.join(keys, on="user_id", how="left")
        weights = spark.createDataFrame(self.weights, "item_id string, neighbor_id string, weight float")
        attributes = [(i, self.keys[i], self.brands[i], None, self.boosts[i], None, self.until[i]) for i in self.items]
        ddl = (
            "item_id string, locale string, brand string, category array<string>, boost float, available_from date, "
            "available_until date"
        )
        items = spark.createDataFrame(attributes, ddl)
        held = items_with_rules(
            weighted_items(weights), items, "locale" if rules.keyed else None, "brand" if rules.quota else None
        )
        blocks = write_item_blocks(
            held, str(tmp_path / uuid.uuid4().hex), rows, tasks=tasks, extra_columns=WEIGHT_COLUMNS
        )
        ids = "user_id string, item_id string"
        seen, allowed = (spark.createDataFrame(sorted(p), ids) for p in (self.seen, self.allowed))
        transform = list_rows(blocks, k, rules, user_rows, scorer=HistoryScorer)
        users = users_with_rules(users, seen, allowed, tasks)
        frame = users.mapInArrow(lambda batches: transform(batches, {}), RESULT_DDL)
        return sorted((tuple(row) for row in frame.collect()), key=lambda row: (row[0], row[3]))


RULES = [
    ListRules(),
    ListRules(min_score=0.75),
    ListRules(boosts=True),
    ListRules(run_date=DAY),
    ListRules(keyed=True),
    ListRules(quota=1),
    ListRules(quota=2, boosts=True, run_date=DAY, keyed=True, min_score=-1.0),
]


# No rule and all of them, these for every k; the other pairs with --slow.
@pytest.mark.parametrize(
    ("rules", "k"),
    [
        pytest.param(rules, k, marks=[] if rules is RULES[-1] or (rules is RULES[0] and k == 4) else pytest.mark.slow)
        for rules in RULES
        for k in (1, 4, 30)
    ],
    ids=lambda value: repr(value)[10:60] if isinstance(value, ListRules) else str(value),
)
def test_hybrid_lists_equal_a_greedy_choice_from_the_sorted_catalogue(spark, tmp_path, rules, k):
    lists = Lists(spark)
    assert lists.joined(tmp_path, k, rules) == lists.brute_force(k, rules)


def test_hybrid_lists_do_not_depend_on_blocks_and_tasks(spark, tmp_path):
    lists, rules = Lists(spark, seed=8), ListRules(boosts=True)
    whole = lists.joined(tmp_path, 5, rules, rows=100, tasks=1, user_rows=100)
    assert lists.joined(tmp_path, 5, rules, rows=2, tasks=3, user_rows=2) == whole
