"""Relaxed whitening against the singular values of the whole centred matrix."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.errors import InputError
from recsys_spark.items.kernels.whitening import Moments, Whitening, whitening
from tests.bench.whitening import cone, slow


@pytest.mark.parametrize("shrink", [0.0, 0.01, 0.1, 1.0, 100.0])
def test_it_is_the_formula(shrink):
    vectors = cone(300, 12)
    np.testing.assert_allclose(whitening(Moments.of(vectors), shrink).apply(vectors), slow(vectors, shrink), atol=2e-4)


def test_a_shrink_of_zero_leaves_no_direction_preferred():
    white = whitening(Moments.of(cone(2000, 6)), 0.0)
    centred = cone(2000, 6).astype(np.float64) - white.mean
    np.testing.assert_allclose(np.cov((centred @ white.matrix).T, bias=True), np.eye(6), atol=1e-3)


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(1, 8), st.lists(st.integers(0, 40), max_size=4))
def test_moments_are_the_same_bits_in_any_order_and_any_parts(seed, rows, dimension, cuts):
    vectors = cone(rows, dimension, seed)
    order = np.random.default_rng(seed).permutation(rows)
    parts = [Moments.of(part) for part in np.split(vectors[order], sorted(min(cut, rows) for cut in cuts))]
    total = sum(parts[1:], parts[0])
    assert total.units.tobytes() == Moments.of(vectors).units.tobytes()
    assert total.count == rows


def test_moments_of_more_rows_than_a_slice_are_sums_over_all_of_them(monkeypatch):
    vectors = cone(100, 4)
    whole = Moments.of(vectors)
    monkeypatch.setattr("recsys_spark.items.kernels.whitening._SLICE", 7)
    assert Moments.of(vectors).units.tobytes() == whole.units.tobytes()


def test_mean_and_covariance_are_those_of_the_rows():
    vectors = cone(500, 5)
    moments = Moments.of(vectors)
    np.testing.assert_allclose(moments.mean, vectors.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(moments.covariance, np.cov(vectors.T, bias=True), atol=1e-5)


@given(st.integers(0, 2**32 - 1), st.integers(1, 64), st.sampled_from([1, 3, 16, 65]))
def test_a_row_has_the_same_bits_in_every_batch(seed, rows, dimension):
    vectors = cone(max(rows, 2), dimension, seed)
    transform = whitening(Moments.of(cone(200, dimension)), 0.1)
    whole = transform.apply(vectors)
    assert whole.dtype == np.float32
    for row in range(len(vectors)):
        assert transform.apply(vectors[row : row + 1]).tobytes() == whole[row : row + 1].tobytes()


def test_the_products_of_any_transform_are_exact():
    """Sums that need no rounding do not depend on the order of their terms."""
    vectors = cone(50, 64)
    transform = whitening(Moments.of(cone(300, 64)), 0.1)
    point = np.rint(vectors.astype(np.float64) * 2**24) / 2**24 - transform.mean
    for row in point[:5]:
        for column in transform.matrix.T[:5]:
            exact = sum(int(a * 2**24) * int(b * 2**60) for a, b in zip(row, column, strict=True)) / 2**84
            assert float(row @ column) == exact


def test_rows_without_a_direction_are_zeros_and_count_nothing():
    good, odd = cone(20, 3), np.array([[0, 0, 0], [np.nan, 1, 0], [np.inf, 0, 0]], np.float32)
    mixed = np.concatenate([odd, good])
    assert Moments.of(mixed).units.tobytes() == Moments.of(good).units.tobytes()
    transform = whitening(Moments.of(good), 0.1)
    assert transform.apply(mixed)[:3].tolist() == [[0, 0, 0]] * 3
    np.testing.assert_allclose(np.linalg.norm(transform.apply(mixed)[3:], axis=1), 1, rtol=1e-6)


def test_the_mean_itself_has_no_direction():
    transform = Whitening(np.array([0.6, 0.8]), np.eye(2))
    at_mean = Whitening(np.rint(np.float32([0.6, 0.8]).astype(np.float64) * 2**24) / 2**24, np.eye(2))
    assert at_mean.apply(np.float32([[0.6, 0.8]])).tolist() == [[0, 0]]
    assert np.linalg.norm(transform.apply(np.float32([[1, 0]]))) == pytest.approx(1)


@pytest.mark.parametrize("vectors", [np.empty((0, 3)), np.zeros((4, 3)), np.ones((1, 3)), np.ones((5, 3))])
def test_items_that_are_all_alike_are_refused(vectors):
    with pytest.raises(InputError, match="whitening needs items with different texts"):
        whitening(Moments.of(vectors), 0.1)


def test_a_name_stands_for_every_number():
    moments = Moments.of(cone(50, 4))
    transform = whitening(moments, 0.1)
    assert transform.name == whitening(moments, 0.1).name
    assert len(transform.name) == 8
    other = transform.matrix.copy()
    other[0, 0] *= 2
    assert len({transform.name, whitening(moments, 0.2).name, Whitening(transform.mean, other).name}) == 3
    assert Whitening(transform.mean * 2, transform.matrix).name != transform.name
