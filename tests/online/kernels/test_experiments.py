"""Tests of two arms on generated users whose effect is planted."""

from dataclasses import replace

import numpy as np
import pytest

from recsys_spark.online.kernels.experiments import (
    Arm,
    always_valid,
    cuped,
    difference,
    minimum_detectable_effect,
    sample_ratio_p_value,
    users_needed,
)


def arm_of(metric, before=None):
    before = np.zeros(len(metric)) if before is None else before
    covariance = np.cov(metric, before)
    return Arm(len(metric), metric.mean(), covariance[0, 0], before.mean(), covariance[1, 1], covariance[0, 1])


def test_the_difference_is_covered_in_95_of_100_tests():
    rng, inside, runs = np.random.default_rng(1), 0, 2000
    for _ in range(runs):
        effect = difference(arm_of(rng.gamma(2, 2, 60)), arm_of(1 + rng.gamma(2, 1, 140)), 0.95)
        inside += effect.low <= 3 - 4 <= effect.high
    assert 0.93 * runs <= inside <= 0.97 * runs


def test_cuped_cuts_the_variance_by_the_square_of_the_correlation():
    rng, users, rho = np.random.default_rng(2), 100_000, 0.8
    before = rng.normal(5, 2, (2, users))
    metric = 3 * (rho * (before - 5) / 2 + (1 - rho**2) ** 0.5 * rng.normal(size=(2, users)))
    metric[1] += 0.1
    arms = [arm_of(metric[arm], before[arm]) for arm in (0, 1)]
    one, other, theta = cuped(*arms)
    for plain, adjusted in zip(arms, (one, other), strict=True):
        assert adjusted.variance / plain.variance == pytest.approx(1 - rho**2, rel=0.02)
    assert theta == pytest.approx(3 * rho / 2, rel=0.02)
    wide, narrow = difference(*arms, 0.95), difference(one, other, 0.95)
    assert (narrow.high - narrow.low) / (wide.high - wide.low) == pytest.approx((1 - rho**2) ** 0.5, rel=0.02)
    assert narrow.low <= 0.1 <= narrow.high
    moments = arm_of(metric[0] - theta * (before[0] - before.mean()))
    assert (one.mean, one.variance) == pytest.approx((moments.mean, moments.variance))
    assert cuped(*(replace(arm, variance_before=0.0, covariance=0.0) for arm in arms))[2] == 0


def looks(rng, users, effect=0.0):
    """The arms at every 20th user from the 100th on, users drawn to arms one after the other."""
    metric, treated = rng.exponential(1, users), rng.random(users) < 0.5
    metric = metric + effect * treated
    sums = [np.cumsum(np.stack([side, side * metric, side * metric**2]), axis=1) for side in (~treated, treated)]
    for size in range(100, users, 20):
        arms = []
        for side in sums:
            n, total, squares = side[:, size]
            arms.append(Arm(int(n), total / n, (squares - total**2 / n) / (n - 1)))
        yield arms


def test_always_valid_intervals_hold_at_all_looks_together_and_those_of_one_look_do_not():
    rng, runs, wrong = np.random.default_rng(3), 300, [0, 0]
    for _ in range(runs):
        effects = [(always_valid(*arms, 0.95, 500), difference(*arms, 0.95)) for arms in looks(rng, 2000, 0.2)]
        for kind in (0, 1):
            wrong[kind] += any(not one[kind].low <= 0.2 <= one[kind].high for one in effects)
    assert wrong[0] <= 0.05 * runs
    assert wrong[1] >= 0.15 * runs


def test_an_always_valid_interval_is_narrowest_where_it_was_planned():
    arms = Arm(500, 0.0, 1.0), Arm(500, 0.5, 1.0)
    widths = {planned: always_valid(*arms, 0.95, planned).high for planned in (200, 1000, 5000)}
    assert min(widths, key=widths.get) == 1000
    one_look = difference(*arms, 0.95).high
    assert 1.3 < (widths[1000] - 0.5) / (one_look - 0.5) < 1.6


def test_the_ratio_of_the_arms_is_guarded():
    assert sample_ratio_p_value(500, 500, 0.5) == 1
    assert sample_ratio_p_value(5000, 5400, 0.5) < 1e-4
    assert sample_ratio_p_value(900, 100, 0.1) == 1
    rng = np.random.default_rng(4)
    sizes = rng.binomial(1000, 0.3, 2000)
    p_values = np.array([sample_ratio_p_value(1000 - int(size), int(size), 0.3) for size in sizes])
    assert 0.035 <= (p_values < 0.05).mean() <= 0.065


def test_a_test_finds_its_minimum_detectable_effect_as_often_as_it_was_planned():
    effect = minimum_detectable_effect(4.0, 1000, 0.4, 0.95, 0.8)
    assert users_needed(4.0, effect, 0.4, 0.95, 0.8) == pytest.approx(1000, abs=1)
    rng, found, runs = np.random.default_rng(5), 0, 2000
    for _ in range(runs):
        found += difference(arm_of(rng.normal(0, 2, 600)), arm_of(rng.normal(effect, 2, 400)), 0.95).low > 0
    assert found / runs == pytest.approx(0.8, abs=0.03)


def test_without_variance_there_is_no_interval():
    same = Arm(5, 1.0, 0.0), Arm(5, 2.0, 0.0)
    assert (difference(*same, 0.95).value, difference(*same, 0.95).low) == (1.0, None)
    assert always_valid(*same, 0.95, 10).high is None
