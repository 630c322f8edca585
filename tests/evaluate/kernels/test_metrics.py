"""Metrics of lists against their definitions in plain Python and against trec_eval; intervals against normal theory."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.arrays.vectors import unit_rows
from recsys_spark.evaluate.kernels import metrics
from recsys_spark.evaluate.kernels.metrics import (
    bootstrap_sums,
    coverage,
    gini,
    interval,
    intra_list_diversity,
    novelty,
    poisson_weights,
    rank_metrics,
)

pytestmark = pytest.mark.filterwarnings("error")  # a NaN is meant, or it is a mistake
NAMES = ["hit_rate", "recall", "precision", "ndcg", "mrr", "map"]
NAN = math.nan


def slow_metrics(ranks, k):
    """The metrics of one user, in the order of NAMES."""
    if not ranks:
        return [NAN] * 6
    hits = [rank for rank in sorted(ranks) if rank <= k][:k]
    most = min(k, len(ranks))
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, most + 1))
    return [
        1.0 if hits else 0.0,
        len(hits) / most,
        len(hits) / k,
        sum(1 / math.log2(rank + 1) for rank in hits) / ideal,
        1 / hits[0] if hits else 0.0,
        sum(number / rank for number, rank in enumerate(hits, 1)) / most,
    ]


def flat(users):
    """Ranks and owners of lists of ranks, one list per user."""
    owner = [row for row, ranks in enumerate(users) for _ in ranks]
    return np.array([rank for ranks in users for rank in ranks], np.float64), np.array(owner, np.int64)


def rows_of(values):
    assert list(values) == NAMES
    return np.stack([values[name] for name in NAMES], axis=1)


@st.composite
def candidates(draw):
    """Of one user: which candidates are relevant, by scores with ties, and how many relevant items cannot be listed."""
    scores = draw(st.lists(st.integers(0, 4), max_size=12))
    relevant = draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    return scores, relevant, draw(st.integers(0, 3))


def mean_ranks(scores):
    """Items of equal score share the mean of their ranks."""
    above = [sum(other > score for other in scores) for score in scores]
    return [more + (1 + scores.count(score)) / 2 for more, score in zip(above, scores, strict=True)]


@given(st.lists(candidates(), min_size=1, max_size=6), st.integers(1, 15), st.randoms())
def test_rank_metrics_equal_their_definitions_in_any_order(users, k, random):
    lists = [
        [rank for rank, wanted in zip(mean_ranks(scores), relevant, strict=True) if wanted] + [math.inf] * missing
        for scores, relevant, missing in users
    ]
    ranks, owner = flat(lists)
    order = random.sample(range(len(ranks)), len(ranks))
    table = rows_of(rank_metrics(ranks[order], owner[order], len(users), k))
    np.testing.assert_allclose(table, [slow_metrics(ranks, k) for ranks in lists], rtol=1e-12)
    assert not (table > 1 + 1e-12).any()


def test_rank_metrics_worked_out_by_hand():
    """At k = 3. 1/log2(2) = 1, 1/log2(3) = 0.63093, 1/log2(4) = 0.5."""
    users = [[1], [3, 2], [4], [1, math.inf], [3, 1, 7, 8, math.inf], [], [2, 2, 2, 2]]
    table = rows_of(rank_metrics(*flat(users), 7, 3))
    expected = [
        [1, 1, 1 / 3, 1, 1, 1],
        [1, 1, 2 / 3, 1.13093 / 1.63093, 1 / 2, (1 / 2 + 2 / 3) / 2],
        [0, 0, 0, 0, 0, 0],
        [1, 1 / 2, 1 / 3, 1 / 1.63093, 1, 1 / 2],
        [1, 2 / 3, 2 / 3, 1.5 / 2.13093, 1, (1 + 2 / 3) / 3],
        [NAN] * 6,
        [1, 1, 1, 3 * 0.63093 / 2.13093, 1 / 2, (1 / 2 + 2 / 2 + 3 / 2) / 3],
    ]
    np.testing.assert_allclose(table, expected, atol=1e-5)


def test_users_without_relevant_items_have_no_metrics():
    by_name = rank_metrics(np.zeros(0), np.zeros(0, np.int64), 2, 5)
    assert all(np.isnan(values).all() and len(values) == 2 for values in by_name.values())


@pytest.mark.parametrize(
    ("ranks", "owner", "k", "message"),
    [([1.0], [0], 0, "found 0"), ([0.5], [0], 1, "found 0.5"), ([NAN], [0], 1, "found nan"), ([1.0], [1], 1, "row 1")],
)
def test_impossible_ranks_are_refused(ranks, owner, k, message):
    with pytest.raises(ValueError, match=message):
        rank_metrics(np.array(ranks), np.array(owner), 1, k)


@pytest.mark.parametrize("k", [1, 5, 20])
def test_rank_metrics_agree_with_trec_eval(k):
    """trec_eval divides recall and MAP by all relevant items, not by those that k ranks can hold."""
    trec_eval = pytest.importorskip("pytrec_eval", reason="not built for this machine")
    random = np.random.default_rng(k)
    users = [
        [*random.choice(30, random.integers(1, 9), replace=False) + 1.0, *[math.inf] * random.integers(0, 3)]
        for _ in range(60)
    ]
    truth, run = {}, {}
    for user, ranks in enumerate(users):
        names = [f"i{rank:.0f}" if rank < math.inf else f"unlisted{number}" for number, rank in enumerate(ranks)]
        truth[str(user)] = dict.fromkeys(names, 1)
        run[str(user)] = {f"i{rank}": float(-rank) for rank in range(1, k + 1)}
    theirs = trec_eval.RelevanceEvaluator(
        truth, {f"success.{k}", f"recall.{k}", f"P.{k}", f"ndcg_cut.{k}", "recip_rank", f"map_cut.{k}"}
    ).evaluate(run)
    share = np.array([len(ranks) / min(k, len(ranks)) for ranks in users])
    expected = {
        "hit_rate": [theirs[str(user)][f"success_{k}"] for user in range(60)],
        "recall": [theirs[str(user)][f"recall_{k}"] for user in range(60)] * share,
        "precision": [theirs[str(user)][f"P_{k}"] for user in range(60)],
        "ndcg": [theirs[str(user)][f"ndcg_cut_{k}"] for user in range(60)],
        "mrr": [theirs[str(user)]["recip_rank"] for user in range(60)],
        "map": [theirs[str(user)][f"map_cut_{k}"] for user in range(60)] * share,
    }
    by_name = rank_metrics(*flat(users), 60, k)
    assert 0 < by_name["hit_rate"].mean() <= 1
    for name, values in expected.items():
        np.testing.assert_allclose(by_name[name], values, rtol=1e-12, err_msg=name)


def test_coverage_counts_listed_items():
    assert coverage(np.array([3, 0, 1, 0])) == 0.5
    assert math.isnan(coverage(np.zeros(0, int)))


@given(st.lists(st.integers(0, 9), min_size=2, max_size=12).filter(any))
def test_gini_is_half_the_mean_difference_of_all_pairs(exposure):
    """… relative to the mean, the other definition."""
    size = len(exposure)
    difference = sum(abs(one - other) for one in exposure for other in exposure) / (size * (size - 1))
    assert gini(np.array(exposure)) == pytest.approx(difference / (2 * sum(exposure) / size), abs=1e-12)


def test_gini_runs_from_equality_to_one_item_that_takes_all():
    assert gini(np.array([4, 4, 4])) == pytest.approx(0, abs=1e-12)
    assert gini(np.array([0, 7, 0])) == pytest.approx(1)
    assert gini(np.array([5])) == 0
    assert math.isnan(gini(np.array([0, 0])))


def test_novelty_is_the_mean_self_information_of_listed_items():
    """Shares (c + 1) / (12 + 4): 1/2, 1/4, 3/16, 1/16."""
    bits = novelty(np.array([[0, 1], [3, -1], [2, 0], [-1, -1]]), np.array([7, 3, 2, 0]))
    np.testing.assert_allclose(bits, [1.5, 4, (4 - math.log2(3) + 1) / 2, NAN])


def slow_diversity(vectors, items):
    pairs = [(one, other) for number, one in enumerate(items) for other in items[number + 1 :]]
    if not pairs:
        return NAN
    return 1 - sum(float(vectors[a].astype(float) @ vectors[b].astype(float)) for a, b in pairs) / len(pairs)


@pytest.mark.parametrize("at_once", [1, 100, 1 << 22])
@given(seed=st.integers(0, 2**32 - 1), ranks=st.integers(1, 6))
def test_diversity_is_the_mean_over_all_pairs_however_the_lists_are_sliced(at_once, seed, ranks):
    random = np.random.default_rng(seed)
    vectors = unit_rows(random.normal(size=(8, 5)) * (np.arange(8) > 0)[:, None])
    lists = np.stack([random.permutation(np.r_[-1, -1, 0:8])[:ranks] for _ in range(7)])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(metrics, "_NUMBERS_AT_ONCE", at_once)
        diversity = intra_list_diversity(vectors, lists)
    expected = [slow_diversity(vectors, [item for item in row if item >= 0]) for row in lists.tolist()]
    np.testing.assert_allclose(diversity, expected, atol=1e-7)


HASHES = np.random.default_rng(5).integers(-(2**63), 2**63, 4000)


def test_weights_are_poisson_distributed():
    """Over users, over replicates and for neighbouring hashes; 4 standard errors of a mean and of a variance."""
    for weights in (poisson_weights(HASHES, 50, 1), poisson_weights(np.arange(4000), 50, 1)):
        assert weights.dtype == np.uint8
        assert weights.shape == (4000, 50)
        for axis, size in ((0, 4000), (1, 50)):
            means, variances = weights.mean(axis=axis), weights.var(axis=axis, ddof=1)
            assert means.mean() == pytest.approx(1, abs=4 / math.sqrt(200_000))
            assert variances.mean() == pytest.approx(1, abs=4 * math.sqrt(3 / 200_000))
            assert means.std() == pytest.approx(1 / math.sqrt(size), rel=0.4)
        expected = [200_000 * math.exp(-1) / math.factorial(weight) for weight in range(6)]
        np.testing.assert_allclose(np.bincount(weights.ravel())[:6], expected, rtol=0.1)
        correlations = np.corrcoef(weights.T) - np.eye(50)
        assert np.abs(correlations).max() < 6 / math.sqrt(4000)


@given(st.lists(st.integers(0, 3999), max_size=20), st.integers(1, 9), st.integers(-3, 2**70))
def test_weights_depend_on_the_hash_the_replicate_and_the_seed_only(rows, replicates, seed):
    whole = poisson_weights(HASHES[:4000:7], 9, seed)
    rows = np.array(rows, np.int64) % len(whole)
    part = poisson_weights(HASHES[:4000:7][rows].view(np.uint64), replicates, seed)
    np.testing.assert_array_equal(part, whole[rows, :replicates])


def test_weights_change_with_the_seed():
    assert (poisson_weights(HASHES, 1, 1) != poisson_weights(HASHES, 1, 2)).mean() > 0.5


def test_weights_stay_what_they_were():
    """The same interval can be computed again later, on any machine. Worked out with Python's own whole numbers."""
    expected = [[1, 1, 2, 1, 3, 1, 2, 2], [1, 5, 1, 1, 2, 1, 1, 2], [0, 1, 1, 1, 3, 0, 1, 1]]
    assert poisson_weights(np.array([0, 1, -1]), 8, 7).tolist() == expected


def test_sums_of_tasks_add_up_and_leave_out_what_is_missing():
    values = np.array([[0.5, 1.0], [NAN, 2.0], [0.25, NAN], [1.0, 4.0]])
    weights = np.array([[1, 0], [2, 1], [0, 3], [3, 200]], np.uint8)
    parts = [bootstrap_sums(values[rows], weights[rows]) for rows in ([0, 1], [2, 3])]
    weighted, total = (sum(part) for part in zip(*parts, strict=True))
    np.testing.assert_array_equal(weighted, [[0.5 + 3, 1 + 4 + 12], [0.75 + 200, 2 + 800]])
    np.testing.assert_array_equal(total, [[4, 6], [203, 201]])
    alone = bootstrap_sums(values[:, 1], weights)
    np.testing.assert_array_equal(alone, [weighted[:, 1], total[:, 1]])


def test_the_interval_of_a_mean_agrees_with_normal_theory():
    values = np.random.default_rng(3).random(4000) < 0.3
    weighted, total = bootstrap_sums(values.astype(float), poisson_weights(HASHES, 2000, 0))
    low, high = interval(weighted / total)
    half = 1.96 * values.std(ddof=1) / math.sqrt(4000)
    assert [low, high] == pytest.approx([values.mean() - half, values.mean() + half], abs=0.1 * half)
    narrow = interval(weighted / total, 0.5)
    half = 0.6745 * values.std(ddof=1) / math.sqrt(4000)
    assert narrow == pytest.approx((values.mean() - half, values.mean() + half), abs=0.15 * half)


def test_an_interval_leaves_out_replicates_without_users():
    assert interval(np.array([NAN, 0.0, 1.0, 2.0]), 0.5) == (0.5, 1.5)
    assert all(math.isnan(end) for end in interval(np.array([NAN])))
    with pytest.raises(ValueError, match="found 95"):
        interval(np.array([1.0]), 95)
