"""Statistics of embedding spaces whose shape is given."""

import numpy as np
import pytest

from recsys_spark.report.kernels.embedding_stats import anisotropy, hubness, nearest, principal_map


def test_the_map_shows_the_two_widest_directions_under_any_rotation():
    random = np.random.default_rng(0)
    flat = random.normal(size=(300, 3)) * [5.0, 2.0, 0.1]
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
    coordinates, share = principal_map(flat @ turn)
    assert share == pytest.approx(1 - 0.01 / 29, abs=1e-3)
    distances = np.linalg.norm(flat[:, None] - flat, axis=2)
    on_map = np.linalg.norm(coordinates[:, None] - coordinates, axis=2)
    assert np.abs(on_map - distances).max() < 0.5
    assert np.array_equal(principal_map(flat @ turn)[0], coordinates)


def test_a_cloud_of_one_number_is_a_line():
    coordinates, share = principal_map(np.array([[1.0], [2.0], [4.0]]))
    assert share == pytest.approx(1)
    assert coordinates[:, 1].tolist() == [0, 0, 0]


def test_anisotropy_is_the_mean_cosine_of_all_pairs():
    vectors = np.random.default_rng(1).normal(size=(20, 5)) + 1
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [units[i] @ units[j] for i in range(20) for j in range(i)]
    assert anisotropy(vectors) == pytest.approx(np.mean(pairs), abs=1e-6)
    assert anisotropy(np.eye(4)) == pytest.approx(0, abs=1e-9)
    assert anisotropy(np.ones((3, 2))) == pytest.approx(1)
    assert np.isnan(anisotropy(np.ones((1, 2))))


def test_nearest_leaves_a_row_itself_out_even_among_equals():
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.9, 0.1]])
    assert nearest(vectors, 2).tolist() == [[1, 3], [0, 3], [3, 0], [0, 1]]
    assert nearest(vectors, 9).shape == (4, 3)


def test_hubness_is_high_for_a_star_and_zero_for_a_ring():
    ring = np.array([[1, 2], [2, 3], [3, 0], [0, 1]])
    assert hubness(ring) == 0
    star = np.zeros((10, 1), int)
    star[0] = 1
    assert hubness(star) > 2
