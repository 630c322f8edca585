"""Profiles on the principal axes of item vectors."""

import numpy as np

from recsys_spark.privacy.kernels.gaussian import clipped_grid
from recsys_spark.privacy.kernels.projection import principal_projection


def test_all_axes_keep_the_direction_and_few_keep_what_varies():
    rng = np.random.default_rng(0)
    items = rng.normal(size=(200, 6)) * [5, 3, 1, 0.1, 0.1, 0.1] + 1
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    whole, few = principal_projection(items, 6), principal_projection(items, 3)
    profiles = 7 * items[:20]
    assert np.allclose(whole.restore(whole.project(profiles)), items[:20])
    assert few.project(profiles).shape == (20, 3)
    assert np.allclose(few.axes.T @ few.axes, np.eye(3))
    lost = np.linalg.norm(few.restore(few.project(profiles)) - items[:20], axis=1)
    assert np.median(lost) < 0.2
    assert principal_projection(items, 99).axes.shape == (6, 6)


def test_a_profile_without_a_direction_becomes_zero():
    projection = principal_projection(np.eye(3), 2)
    coordinates = projection.project(np.array([[0.0, 0.0, 0.0], [np.inf, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    assert (clipped_grid(coordinates, 1.0).any(axis=1) == [False, False, True]).all()
