"""Contributions add up to the score, and a score without a part equals a new sum of the others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.explain.kernels.attribution import deletion_fidelity, vector_contributions, weight_contributions

WIDTHS = {"text": 3, "category": 2, "price": 1}


def case(seed, items=4, parts=5):
    random = np.random.default_rng(seed)
    rows = random.normal(size=(items, 6))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), random.normal(size=(parts, 6)), random.normal(size=parts)


def spread(parts, weights):
    """The length that the profile would have if no parts cancelled."""
    return (np.abs(weights) * np.linalg.norm(parts, axis=1)).sum()


def cosine(items, parts, weights):
    profile = weights @ parts
    return items @ profile / np.linalg.norm(profile)


@given(seed=st.integers(0, 2**32), parts=st.integers(1, 6))
def test_parts_and_blocks_add_up_to_the_cosine(seed, parts):
    items, vectors, weights = case(seed, parts=parts)
    result = vector_contributions(items, vectors, weights, WIDTHS)
    profile = weights @ vectors
    rounding = 1e-14 * spread(vectors, weights) / np.linalg.norm(profile)
    assert result.values.sum(axis=(1, 2)) == pytest.approx(cosine(items, vectors, weights), rel=0, abs=rounding)
    for row, item in enumerate(items):
        for number, (vector, weight) in enumerate(zip(vectors, weights, strict=True)):
            terms = [
                weight * sum(item[a:b] * vector[a:b]) / np.linalg.norm(profile) for a, b in ((0, 3), (3, 5), (5, 6))
            ]
            assert result.values[row, number] == pytest.approx(terms, rel=0, abs=rounding)


@given(seed=st.integers(0, 2**32))
def test_a_score_without_a_part_is_the_score_of_the_others(seed):
    items, vectors, weights = case(seed)
    result = vector_contributions(items, vectors, weights, WIDTHS)
    for part in range(len(weights)):
        others = np.arange(len(weights)) != part
        # The part is subtracted from the sums and from the squared length: the rounding is relative to the whole.
        share = spread(vectors, weights) / np.linalg.norm(weights[others] @ vectors[others])
        expected = cosine(items, vectors[others], weights[others])
        assert result.without[:, part] == pytest.approx(expected, rel=0, abs=1e-14 * share**2)


def test_a_profile_of_one_part_has_no_score_without_it():
    items, vectors, weights = case(1, parts=1)
    assert vector_contributions(items, vectors, weights, WIDTHS).without.tolist() == [[0.0]] * 4


def test_blocks_that_are_missing_have_no_cosine_and_equal_ones_have_one():
    items = np.array([[0.6, 0.0, 0.0, 0.8, 0.0, 0.0]])
    parts = np.array([[0.0, 1.0, 0.0, 3.0, 0.0, 0.0]])
    cosines = vector_contributions(items, parts, np.array([2.0]), WIDTHS).cosines[0, 0]
    assert cosines[:2].tolist() == [0.0, 1.0]
    assert np.isnan(cosines[2])


def test_sums_over_item_weights_lose_a_part_as_a_whole():
    weights, pairs = np.array([2.0, -1.0, 0.5]), np.array([[0.5, 0.25, 0.0], [1.0, 0.0, -2.0]])
    result = weight_contributions(weights, pairs)
    assert result.values[..., 0].tolist() == [[1.0, -0.25, 0.0], [2.0, 0.0, -1.0]]
    assert result.without.tolist() == [[-0.25, 1.0, 0.75], [-1.0, 1.0, 2.0]]


def test_the_margin_is_the_fall_without_the_top_part_and_without_the_mean_other():
    weights, pairs = np.array([2.0, -1.0, 0.5]), np.array([[0.5, 0.25, 0.0], [1.0, 0.0, -2.0]])
    result = weight_contributions(weights, pairs)
    assert deletion_fidelity(result, 3) == pytest.approx((1.5, (-0.125 + -0.5) / 2))
    assert deletion_fidelity(result, 1) is None
