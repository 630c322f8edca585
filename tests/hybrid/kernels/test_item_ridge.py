"""Ridge weights against the dense equations, supports against a sort, EASE as the limit of all candidates."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.arrays.vectors import unit_rows
from recsys_spark.evaluate.kernels.scorers import ItemScores, ItemVectors, ItemWeights, ease, item_knn, target_ranks
from recsys_spark.hybrid.kernels.item_ridge import Features, ridge_weights, supports
from tests.bench.user_histories import user_histories


def features(seed, items=9, users=20, words=7, width=3):
    random = np.random.default_rng(seed)
    had = (random.random((items, users)) < 0.3).astype(float)
    text = unit_rows(random.random((items, words)) * (random.random((items, words)) < 0.5)).astype(float)
    vectors = unit_rows(random.standard_normal((items, width)))
    vectors[1] = 0
    return Features(sp.csr_array(had), sp.csr_array(text), vectors)


@given(st.integers(0, 1000), st.integers(1, 8))
def test_weights_solve_the_ridge_of_each_target_on_its_support(seed, size):
    item_features, random = features(seed), np.random.default_rng(seed + 1)
    targets = random.permutation(9)[:4]
    support = np.array([np.sort(random.choice([i for i in range(9) if i != t], size, replace=False)) for t in targets])
    weights = ridge_weights(item_features, targets, support, vector_weight=2.0, word_weight=3.0, ridge=1.5)
    dense = [
        item_features.users.toarray(),
        np.sqrt(3.0) * item_features.words.toarray(),
        np.sqrt(2.0) * item_features.vectors.astype(float),
    ]
    z = np.hstack(dense)
    for target, rows, row in zip(targets, support, weights, strict=True):
        expected = np.linalg.solve(z[rows] @ z[rows].T + 1.5 * np.eye(size), z[rows] @ z[target])
        np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-6)


def test_a_shorter_support_has_weight_0_where_it_ends_and_the_same_weights_before():
    item_features, targets = features(4), np.array([0])
    short = ridge_weights(item_features, targets, np.array([[2, 5]]), vector_weight=1.0, word_weight=1.0, ridge=1.0)
    padded = ridge_weights(
        item_features, targets, np.array([[2, 5, -1, -1]]), vector_weight=1.0, word_weight=1.0, ridge=1.0
    )
    assert padded[0, 2:].tolist() == [0, 0]
    np.testing.assert_allclose(padded[:, :2], short, rtol=1e-6)


def test_all_items_as_support_without_text_is_the_closed_form():
    item_features = features(2)
    every = np.array([[i for i in range(9) if i != t] for t in range(9)])
    weights = ridge_weights(item_features, np.arange(9), every, vector_weight=0.0, word_weight=0.0, ridge=2.0)
    gram = (item_features.users @ item_features.users.T).toarray()
    closed = ease(gram.astype(np.float32), 2.0)
    for target in range(9):
        np.testing.assert_allclose(weights[target], closed[every[target], target], rtol=1e-3, atol=1e-5)
    inverse = np.linalg.inv(gram + 2.0 * np.eye(9))
    np.testing.assert_allclose(closed, np.eye(9) - inverse / np.diag(inverse), rtol=1e-3, atol=1e-5)


@given(st.integers(0, 1000), st.integers(1, 9))
def test_supports_are_the_best_candidates_by_co_occurrence_and_text(seed, size):
    item_features = features(seed)
    candidates = np.array([[0, 2, 3, 5, 8], [1, 4, 6, -1, -1]])
    candidates = np.sort(candidates, axis=1)
    chosen = supports(item_features, np.array([7, 2]), candidates, size, shrink=3.0, text_share=0.4)
    had, words = item_features.users.toarray(), item_features.words.toarray()
    vectors = item_features.vectors.astype(float)
    for target, row, best in zip([7, 2], candidates, chosen, strict=True):
        score = {
            c: had[c] @ had[target] / (np.sqrt(had[c].sum() * had[target].sum()) + 3.0)
            + 0.2 * (words[c] @ words[target] + vectors[c] @ vectors[target])
            for c in row[row >= 0]
        }
        expected = sorted(sorted(score, key=lambda c: (-round(score[c], 12), c))[:size])
        assert best[best >= 0].tolist() == expected


def test_nearest_neighbours_keep_the_greatest_shrunk_cosines_and_never_the_item_itself():
    had = features(6).users.toarray().T
    gram = sp.csr_array(had.T @ had)
    near = item_knn(gram, 2, 1.0).toarray()
    counts = had.sum(axis=0)
    cosines = (had.T @ had) / (np.sqrt(np.outer(counts, counts)) + 1.0)
    np.fill_diagonal(cosines, 0)
    for item in range(9):
        expected = np.where(cosines[item] >= np.sort(cosines[item])[-2], cosines[item], 0)
        np.testing.assert_allclose(near[:, item], expected)


def test_scorers_score_histories():
    histories = user_histories([[1.0, 0, 0.5], [0, 0, 0]])
    weights = np.array([[0, 2, 3], [4, 0, 5], [6, 7, 0]], np.float32)
    expected = [[3, 5.5, 3], [0, 0, 0]]
    for held in (weights, sp.csr_array(weights)):
        assert ItemWeights(held).scores(histories).tolist() == expected
    assert ItemScores(np.array([3, 1, 2], np.float32)).scores(histories).tolist() == [[3, 1, 2]] * 2
    vectors = unit_rows(np.array([[1, 0], [1, 1], [0, 1]], np.float32))
    profile = unit_rows(np.array([[1, 0.5]]))
    for held in (vectors, sp.csr_array(vectors.astype(float))):
        scores = ItemVectors(held).scores(histories)
        np.testing.assert_allclose(scores, np.vstack([profile @ vectors.T, np.zeros((1, 3))]), rtol=1e-6)


@given(st.integers(0, 1000), st.booleans(), st.booleans())
def test_target_ranks_count_greater_scores_and_half_of_the_ties(seed, masked, rank_seen):
    random = np.random.default_rng(seed)
    scores = random.integers(0, 4, (3, 6)).astype(np.float32)
    owners, targets = np.array([0, 0, 2]), np.array([1, 4, 5])
    seen = (np.array([0, 0, 2]), np.array([2, 4, 0])) if masked else (np.empty(0, int), np.empty(0, int))
    ranks = target_ranks(scores.copy(), seen, owners, targets, rank_seen=rank_seen)
    for rank, owner, target in zip(ranks, owners, targets, strict=True):
        hidden = {c for r, c in zip(*seen, strict=True) if r == owner}
        hidden -= set(targets[owners == owner]) if rank_seen else set()
        if target in hidden:
            assert rank == np.inf
            continue
        rest = [scores[owner, c] for c in range(6) if c not in hidden and c != target]
        level = scores[owner, target]
        assert rank == 1 + sum(x > level for x in rest) + sum(x == level for x in rest) / 2


def test_a_ridge_too_small_for_the_gram_matrix_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="a ridge of 0.0 is too small"):
        ease(np.ones((3, 3), np.float32), 0.0)


@given(st.integers(0, 200))
def test_four_users_of_a_quarter_of_trust_count_as_one(seed):
    """The values of users are roots of their trust: a user of trust 1/4 counts as a quarter of a user."""
    plain = features(seed)
    one_in_four = Features(sp.csr_array(sp.hstack([plain.users * 0.5] * 4)), plain.words, plain.vectors)
    targets = np.arange(9)
    candidates = np.array([[i for i in range(9) if i != target] for target in targets])
    chosen = [supports(some, targets, candidates, 4, shrink=2.0, text_share=0.2) for some in (plain, one_in_four)]
    assert (chosen[0] == chosen[1]).all()
    weights = [
        ridge_weights(some, targets, chosen[0], vector_weight=2.0, word_weight=3.0, ridge=1.5)
        for some in (plain, one_in_four)
    ]
    np.testing.assert_allclose(weights[0], weights[1], rtol=1e-4, atol=1e-6)
