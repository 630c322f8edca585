"""Scales from histograms against the values themselves; the shrunk covariance against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.risk.kernels.scales import (
    NO_FIGURE,
    Histogram,
    Tail,
    center_and_scale,
    distances,
    peer_groups,
    shrunk_covariance,
    whitener,
)

VALUES = st.lists(st.integers(-300, 300), min_size=1, max_size=60)


def histogram_of(values):
    return Histogram.of(values, [1] * len(values))


@given(VALUES, st.floats(0.01, 1.0))
def test_a_quantile_is_the_least_value_that_enough_do_not_exceed(values, share):
    ordered = sorted(values)
    expected = next(v for v in ordered if sum(x <= v for x in values) >= share * len(values) - 1e-9)
    assert histogram_of(values).quantile(share) == expected


@given(VALUES, st.integers(2, 5))
def test_a_scale_depends_on_counts_alone(values, parts):
    split = [values[n::parts] for n in range(parts)]
    distinct = [sorted(set(part)) for part in split]
    counts = [[part.count(v) for v in names] for part, names in zip(split, distinct, strict=True)]
    merged = Histogram.of(sum(distinct, []), sum(counts, []))
    assert center_and_scale(merged) == center_and_scale(histogram_of(values))


def test_the_scale_of_normal_values_is_their_deviation_and_of_equal_ones_0():
    values = np.round(np.random.default_rng(0).normal(40, 200, 20_001)).astype(int).tolist()
    center, scale = center_and_scale(histogram_of(values))
    assert center == pytest.approx(40, abs=5)
    assert scale == pytest.approx(200, rel=0.03)
    assert center_and_scale(histogram_of([7] * 9)) == (7, 0)
    assert center_and_scale(histogram_of([0] * 9 + [100]))[1] > 0  # most are equal, one is not


def test_peers_are_neighbouring_classes_with_enough_users():
    assert peer_groups({2: 40, 3: 70, 4: 100, 5: 10}, 100) == {2: 0, 3: 0, 4: 1, 5: 1}
    assert peer_groups({0: 1}, 100) == {0: 0}


def test_the_surprise_of_an_exponential_tail_is_minus_ln_of_the_share_above():
    values = np.round(np.random.default_rng(1).exponential(300, 200_001)).astype(np.int64)
    tail = Tail.of(histogram_of(values.tolist()))
    for share in (0.1, 0.01, 0.001):
        at = np.array([int(np.quantile(values, 1 - share))])
        assert tail.surprise(at)[0] == pytest.approx(-np.log(share), rel=0.03)
    assert tail.surprise(np.array([0, NO_FIGURE])).tolist() == [0, 0]


@given(st.integers(0, 200), st.integers(1, 6), st.integers(2, 40))
def test_the_covariance_is_that_of_oracle_approximating_shrinkage(seed, p, n):
    covariance = pytest.importorskip("sklearn.covariance")
    rows = np.random.default_rng(seed).normal(size=(n, p)) @ np.diag(np.arange(1, p + 1))
    mean, shrunk = shrunk_covariance(rows.T @ rows, rows.sum(axis=0), n)
    expected = covariance.OAS().fit(rows)
    np.testing.assert_allclose(mean, expected.location_, atol=1e-9)
    np.testing.assert_allclose(shrunk, expected.covariance_, rtol=1e-6, atol=1e-9)
    ours = distances(rows, mean, whitener(shrunk))
    np.testing.assert_allclose(ours**2, expected.mahalanobis(rows), rtol=1e-6, atol=1e-8)


def test_a_distance_does_not_depend_on_the_batch():
    random = np.random.default_rng(3)
    rows, factor = random.normal(size=(50, 7)), np.tril(random.normal(size=(7, 7)))
    whole = distances(rows, np.zeros(7), factor)
    parts = [distances(rows[start : start + 3], np.zeros(7), factor) for start in range(0, 50, 3)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()
