"""The closed form against the small ridge fits that approximate it."""

import numpy as np
import pytest
import scipy.sparse as sp

from recsys_spark.arrays.vectors import unit_rows
from recsys_spark.evaluate.kernels.scorers import ease, hybrid_gram
from recsys_spark.hybrid.kernels.item_ridge import Features, ridge_weights


@pytest.mark.parametrize(("words", "vectors"), [(0.0, 0.0), (2.0, 0.0), (0.0, 3.0), (2.0, 3.0)])
def test_the_closed_form_is_the_ridge_on_all_other_items(words, vectors):
    random = np.random.default_rng(4)
    users = sp.csr_array((random.random((9, 20)) < 0.3).astype(float))
    features = Features(users, sp.csr_array(unit_rows(random.random((9, 6)))), unit_rows(random.normal(size=(9, 4))))
    gram = hybrid_gram(
        sp.csr_array(users @ users.T), features.words, features.vectors, word_weight=words, vector_weight=vectors
    )
    closed = ease(gram, 1.5)
    others = np.array([[item for item in range(9) if item != target] for target in range(9)])
    small = ridge_weights(
        features, np.arange(9), others, word_weight=words, vector_weight=vectors, ridge=1.5, user_weight=1.0
    )
    for target in range(9):
        np.testing.assert_allclose(closed[others[target], target], small[target], atol=1e-5)
    np.testing.assert_array_equal(np.diag(closed), 0)


def test_items_without_users_have_no_weights_and_change_no_others():
    random = np.random.default_rng(6)
    users = (random.random((30, 7)) < 0.4).astype(np.float32)
    users[:, [2, 5]] = 0
    gram = users.T @ users
    counted = np.array([0, 1, 3, 4, 6])
    inverse = np.linalg.inv(gram.astype(np.float64) + 2.0 * np.eye(7))
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0)
    weights = ease(gram.copy(), 2.0)
    np.testing.assert_allclose(weights, expected, atol=1e-5)
    assert not weights[[2, 5]].any()
    assert not weights[:, [2, 5]].any()
    np.testing.assert_allclose(weights[np.ix_(counted, counted)], ease(gram[np.ix_(counted, counted)], 2.0), atol=1e-6)
    assert not ease(np.zeros((3, 3), np.float32), 1.0).any()


def test_users_of_weight_0_count_nothing():
    random = np.random.default_rng(5)
    vectors = unit_rows(random.normal(size=(6, 4)))
    users = sp.csr_array((random.random((6, 20)) < 0.3).astype(float))
    rows = {"targets": np.array([0]), "supports": np.array([[1, 2, 3, 4, 5]])}
    weights = {"word_weight": 1.0, "vector_weight": 2.0, "ridge": 0.5}
    none, words = sp.csr_array((6, 20)), sp.csr_array((6, 1))
    weights_without_users = ridge_weights(Features(users, words, vectors), **rows, **weights, user_weight=0.0)
    expected = ridge_weights(Features(none, words, vectors), **rows, **weights)
    np.testing.assert_allclose(weights_without_users, expected, atol=1e-7)
