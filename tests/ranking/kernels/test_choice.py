"""The choice of the ranker: what is better on users of the newest window is kept, ties go to the simple one."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.ranking.kernels.choice import FALLBACK, choose
from recsys_spark.ranking.kernels.features import FEATURES
from recsys_spark.ranking.kernels.rankers import KINDS, SIMPLE, TREES, Ranker
from recsys_spark.ranking.kernels.sampling import sampled
from recsys_spark.ranking.kernels.selection import Examples
from recsys_spark.ranking.kernels.trees import TreeSettings, fit_trees


def examples(users=120, items=40, seed=0, rule=None, had_share=0.0):
    """Users with candidates of random features; ``rule(features, had)`` says what they wanted."""
    random = np.random.default_rng(seed)
    features = random.standard_normal((users * items, len(FEATURES))).astype(np.float32)
    had = random.random(users * items) < had_share
    owners = np.repeat(np.arange(users), items)
    features[:, FEATURES.index("own_30")] = np.where(had, random.random(len(had)), 0)
    chances = rule(features, had)
    relevant = np.zeros(len(owners), bool)
    for user in range(users):
        rows = np.flatnonzero(owners == user)
        relevant[rows[np.argsort(-chances[rows])[:3]]] = True
    wanted = np.full(len(owners), 3)
    new = np.repeat(np.add.reduceat((relevant & ~had).astype(int), np.arange(0, len(owners), items)), items)
    return Examples(owners, np.tile(np.arange(items), users), features, relevant, had, wanted, new)


def pick(name):
    return lambda features, _: features[:, FEATURES.index(name)]


def test_trees_are_kept_where_no_single_feature_ranks_as_well():
    def both(features, _):
        return np.minimum(features[:, FEATURES.index("score")], features[:, FEATURES.index("popularity_7")])

    choice = choose(examples(seed=1, rule=both), examples(seed=2, rule=both), 10, repeats="mask", negatives=20, seed=0)
    assert choice.ranker.name == TREES
    assert choice.figures["gain"] > choice.figures["gain_half_interval"]
    assert choice.figures["ndcg"][choice.figures["ranker"]] == max(choice.figures["ndcg"].values())


def test_a_simple_ranker_that_is_perfect_is_not_replaced():
    perfect = pick("popularity_90")
    choice = choose(
        examples(seed=1, rule=perfect), examples(seed=2, rule=perfect), 10, repeats="auto", negatives=20, seed=0
    )
    assert choice.ranker == Ranker("popularity_90")
    assert choice.figures["ndcg"]["popularity_90"] == 1
    assert not choice.repeats


def test_items_that_users_had_are_listed_again_where_they_are_wanted_again():
    def again(features, had):
        return np.where(had, 10.0, 0) + features[:, FEATURES.index("own_30")]

    sets = [examples(seed=seed, rule=again, had_share=0.1) for seed in (1, 2)]
    assert choose(*sets, 10, repeats="auto", negatives=20, seed=0).repeats
    assert not choose(*sets, 10, repeats="mask", negatives=20, seed=0).repeats
    never = [examples(seed=seed, rule=lambda f, had: np.where(had, -10.0, f[:, 0]), had_share=0.1) for seed in (1, 2)]
    assert not choose(*never, 10, repeats="auto", negatives=20, seed=0).repeats


def test_few_users_are_not_compared():
    few = examples(users=5, rule=pick("score"))
    choice = choose(few, few, 10, repeats="auto", negatives=20, seed=0)
    assert choice.ranker.name == FALLBACK
    assert choice.figures["repeats"] is choice.repeats is False
    assert "too few" in choice.description


def test_the_same_examples_give_the_same_trees():
    train = examples(users=30, rule=pick("score"))
    models = [fit_trees(train.features, train.relevant, TreeSettings(rounds=5)).model for _ in range(2)]
    assert models[0] == models[1]


def test_a_greater_popularity_or_score_never_lowers_a_score():
    def noise(features, _):
        return features[:, FEATURES.index("user_items")]

    train = examples(users=60, rule=noise)
    trees = fit_trees(train.features, train.relevant, TreeSettings(rounds=20))
    for name in ("popularity_7", "score", "own_30"):
        higher = train.features[:500].copy()
        higher[:, FEATURES.index(name)] += 1
        assert (trees.scores(higher) >= trees.scores(train.features[:500])).all(), name


@pytest.mark.parametrize("name", [TREES, *SIMPLE])
def test_contributions_add_up_to_the_score(name):
    train = examples(users=30, rule=pick("score"))
    trees = fit_trees(train.features, train.relevant, TreeSettings(rounds=20)) if name == TREES else None
    ranker = Ranker(name, trees)
    values = ranker.contributions(train.features[:300])
    assert values.shape == (300, len(KINDS))
    np.testing.assert_allclose(values.sum(axis=1), ranker.scores(train.features[:300]), atol=1e-5, rtol=1e-5)


def slow_ndcg(scores, relevant, wanted, k):
    ranked = sorted(range(len(scores)), key=lambda row: (-scores[row], row))[:k]
    gain = sum(1 / math.log2(place + 2) for place, row in enumerate(ranked) if relevant[row])
    return gain / sum(1 / math.log2(place + 2) for place in range(min(k, wanted)))


@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=8), min_size=1, max_size=5))
def test_ndcg_equals_a_slow_one(lists):
    users = np.repeat(np.arange(len(lists)), [len(one) for one in lists])
    scores = np.array([score for one in lists for score, _ in one], np.float32)
    relevant = np.array([hit for one in lists for _, hit in one])
    wanted = [sum(hit for _, hit in one) + number % 2 for number, one in enumerate(lists)]
    per_row = np.repeat(wanted, [len(one) for one in lists])
    empty = np.zeros((len(users), 0), np.float32)
    sample = Examples(users, np.arange(len(users)), empty, relevant, np.zeros(len(users), bool), per_row, per_row)
    expected = [slow_ndcg(*zip(*one, strict=True), count, 3) for one, count in zip(lists, wanted, strict=True) if count]
    np.testing.assert_allclose(sample.ndcg(scores, 3, repeats=True), expected)


def test_samples_do_not_depend_on_the_order_of_a_users_items():
    users, items = np.repeat([3, -8], 20), np.tile(np.arange(20), 2)
    among = np.tile(np.arange(20) % 3 != 0, 2)
    chosen = {(u, i) for u, i, kept in zip(users, items, sampled(users, items, among, 5), strict=True) if kept}
    assert len(chosen) == 10
    assert all(item % 3 for _, item in chosen)
    other = np.r_[np.arange(20)[::-1], 20 + np.arange(20)[::-1]]
    mask = sampled(users[other], items[other], among[other], 5)
    assert {(u, i) for u, i, kept in zip(users[other], items[other], mask, strict=True) if kept} == chosen
