"""Clipping, noise and the accounting of OpenDP."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recsys_spark.errors import UsageError
from recsys_spark.privacy.kernels import gaussian
from recsys_spark.privacy.kernels.gaussian import (
    GRID,
    clipped_grid,
    composed_epsilon,
    concentrated_loss,
    least_scale,
    noisy,
)

dp = pytest.importorskip("opendp.prelude")

DELTA = 1e-6


@example(np.array([[1e100, 1e100]]), 1.0)
@example(np.full((1, 384), 1e-30), 1e-30)
@given(hnp.arrays(np.float64, (3, 4), elements=st.floats(width=32)), st.sampled_from([0.1, 1.0, 7.5]))
def test_no_row_is_longer_than_the_sensitivity_says(vectors, clip):
    grid = clipped_grid(vectors, clip)
    assert ((grid.astype(object) ** 2).sum(axis=1) <= GRID**2).all()
    finite = np.isfinite(vectors).all(axis=1) & (np.linalg.norm(vectors, axis=1) <= clip)
    assert np.allclose(grid[finite] * (clip / GRID), vectors[finite], atol=2 * clip / GRID)
    assert not grid[~np.isfinite(vectors).all(axis=1)].any()


def test_noise_has_the_scale_that_it_should_have_and_is_never_the_same():
    drawn = noisy(np.zeros((20, 100), np.int64), 5.0)
    assert drawn.shape == (20, 100)
    assert abs(drawn.std() / 5.0 - 1) < 0.15  # 2,000 draws: nine standard errors
    assert abs(drawn.mean()) < 1
    assert (noisy(np.zeros((20, 100), np.int64), 5.0) != drawn).any()


@settings(max_examples=10)
@example(0.5, 2.0 * GRID)
@given(st.floats(0.05, 20), st.sampled_from([1.0, 6.5, 2.0 * GRID]))
def test_the_least_scale_spends_what_was_given_and_no_less_would_do(epsilon, sensitivity):
    scale = least_scale(epsilon, DELTA, sensitivity)
    assert composed_epsilon([(scale, sensitivity)], DELTA) <= epsilon * (1 + 1e-9)
    assert composed_epsilon([(scale * 0.999, sensitivity)], DELTA) > epsilon


def test_the_total_is_the_composition_of_opendp():
    """Written down here with OpenDP alone, all releases with their own sensitivity over one domain of floats."""
    dp.enable_features("contrib")
    releases = [(3e6, 2.0 * GRID), (40.0, 6.5), (9e6, 2.0 * GRID)]
    space = dp.vector_domain(dp.atom_domain(T=float, nan=False)), dp.l2_distance(T=float)
    parts = [dp.m.make_gaussian(*space, scale=scale / sensitivity) for scale, sensitivity in releases]
    whole = dp.c.make_zCDP_to_approxDP(dp.c.make_composition(parts)).map(1.0)
    assert composed_epsilon(releases, DELTA) == pytest.approx(whole.epsilon(DELTA), rel=1e-12)
    rho = sum((sensitivity / scale) ** 2 / 2 for scale, sensitivity in releases)
    assert sum(concentrated_loss(*release) for release in releases) == pytest.approx(rho)
    separate = [composed_epsilon([release], DELTA) for release in releases]
    assert max(separate) < composed_epsilon(releases, DELTA) < sum(separate)
    assert composed_epsilon([], DELTA) == 0.0


def test_a_loss_that_no_noise_reaches_is_a_sentence():
    with pytest.raises(UsageError, match="is out of range: no scale of noise reaches it"):
        least_scale(1e9, DELTA, 1.0)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setattr(gaussian, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'recsys-spark\[privacy\]'"):
        gaussian.check_opendp_installed()
