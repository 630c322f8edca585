"""Scores from a user's other ratings, against loops."""

import numpy as np
import pytest
import scipy.sparse as sp

from recsys_spark.arrays.vectors import unit_rows
from recsys_spark.evaluate.kernels.rating_features import neighbor_scores, text_scores


@pytest.fixture(scope="module")
def residuals():
    random = np.random.default_rng(3)
    return sp.csr_array(random.standard_normal((15, 7)) * (random.random((15, 7)) < 0.6))


PAIRS = np.repeat(np.arange(15), 7), np.tile(np.arange(7), 15)


def cosine(dense, one, other, shrink):
    left, right = dense[:, one], dense[:, other]
    common = int(((left != 0) & (right != 0)).sum())
    return max(left @ right / np.sqrt((left @ left) * (right @ right) + 1e-9) * common / (common + shrink), 0)


@pytest.mark.parametrize("neighbors", [2, 100])
def test_neighbor_scores_are_weighted_means_of_the_users_other_residuals(residuals, neighbors):
    dense = residuals.toarray()
    scores = neighbor_scores(residuals, *PAIRS, neighbors=neighbors, shrink=4.0)
    for user, item, score in zip(*PAIRS, scores, strict=True):
        near = sorted(((cosine(dense, item, j, 4.0), j) for j in range(7) if j != item), reverse=True)[:neighbors]
        rated = [(c, dense[user, j]) for c, j in near if dense[user, j] != 0]
        assert score == pytest.approx(sum(c * r for c, r in rated) / (sum(c for c, _ in rated) + 0.5))


def test_text_scores_leave_the_pairs_own_rating_out(residuals):
    vectors, dense = unit_rows(np.random.default_rng(1).standard_normal((7, 4))), residuals.toarray()
    for user, item, score in zip(*PAIRS, text_scores(residuals, vectors, *PAIRS), strict=True):
        others = sum(dense[user, j] * vectors[j].astype(float) for j in range(7) if j != item)
        assert score == pytest.approx(others @ vectors[item] / (np.linalg.norm(others) or 1), abs=1e-6)
