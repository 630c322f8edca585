"""Off-policy estimates against planted preferences, and against a second implementation row by row."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.evaluate.kernels.metrics import poisson_weights
from recsys_spark.online.kernels import off_policy
from recsys_spark.online.kernels.off_policy import (
    SUMS,
    Log,
    cross_fitted_means,
    estimates,
    log_sums,
    summary,
)
from tests.bench.simulated_log import World, rows_of

RUNS, USERS, SLOTS = 400, 1000, 3

OFF_POLICY = ("ips", "snips", "dr")


def test_the_true_value_lies_in_95_of_100_intervals(monkeypatch):
    world = World.planted(1)
    log = world.log(RUNS * USERS, 2)
    draws = poisson_weights(np.arange(USERS), 300, 0)  # one sample for all runs: they are independent
    monkeypatch.setattr(off_policy, "poisson_weights", lambda users, replicates, seed: draws)
    users, inside = np.repeat(np.arange(USERS), SLOTS), dict.fromkeys(OFF_POLICY, 0)
    for run in range(RUNS):
        part = rows_of(log, slice(run * USERS * SLOTS, (run + 1) * USERS * SLOTS))
        values, _, _ = summary(log_sums(replace(part, users=users), None, 300, run), USERS, 0.95)
        for name in OFF_POLICY:
            inside[name] += values[name].low <= world.value <= values[name].high
    assert all(0.93 * RUNS <= count <= 0.97 * RUNS for count in inside.values()), inside


def test_estimates_converge_to_the_truth_and_the_logged_mean_does_not():
    world = World.planted(3)
    values = estimates(log_sums(world.log(200_000, 4), None, 2, 0)[0])
    assert [float(values[name]) for name in OFF_POLICY] == pytest.approx([world.value] * 3, abs=0.005)
    assert abs(values["logged"] - world.value) > 0.01


def slow(rows, draws, cap):
    """The estimates of one replicate, a row at a time."""
    n = weight = ips = dr = logged = 0.0
    for user, propensity, target, reward, predicted in rows:
        w = min(target / propensity, cap)
        n += draws[user]
        weight += draws[user] * w
        logged += draws[user] * reward
        ips += draws[user] * w * reward
        dr += draws[user] * (predicted + w * (reward - predicted))
    return [logged / n, ips / n, ips / weight if weight else np.nan, dr / n] if n else [np.nan] * 4


ROW = st.tuples(
    st.integers(0, 3),
    st.floats(0.05, 1),
    st.floats(0, 1),
    st.floats(-2, 2),
    st.floats(-1, 1),
)


@given(st.lists(ROW, min_size=1, max_size=12), st.sampled_from([None, 1.5]), st.integers(0, 11))
def test_a_second_implementation_gives_the_same_and_parts_add_up(rows, cap, cut):
    log = Log(*(np.array(column) for column in zip(*rows, strict=True)))
    draws = [dict.fromkeys(range(4), 1), *(dict(enumerate(w)) for w in poisson_weights(np.arange(4), 3, 9).T)]
    expected = [slow(rows, by_user, cap or np.inf) for by_user in draws]
    sums = log_sums(log, cap, 3, 9)
    np.testing.assert_allclose(np.stack(list(estimates(sums).values()), axis=1), expected, atol=1e-9, rtol=1e-9)
    parts = [rows_of(log, part) for part in (slice(cut), slice(cut, None))]
    np.testing.assert_allclose(sum(log_sums(part, cap, 3, 9) for part in parts), sums, atol=1e-9)


def test_the_bias_of_clipping_is_within_its_bound():
    world = World.planted(5)
    log = world.log(100_000, 6)
    _, _, free = summary(log_sums(log, None, 2, 0), 100_000, 0.95)
    assert (free.clipped_rows, free.clipped_weight, free.bias) == (0, 0, (0, 0))
    values, _, clipped = summary(log_sums(log, 4.0, 2, 0), 100_000, 0.95)
    weight = log.target / log.propensity
    assert clipped.clipped_rows == (weight > 4).sum() > 0
    assert clipped.clipped_weight == pytest.approx(np.maximum(weight - 4, 0).sum() / weight.sum())
    lost = np.maximum(weight - 4, 0)
    assert clipped.bias == pytest.approx(((lost * log.reward).mean(), (lost * abs(log.reward - log.predicted)).mean()))
    for name, bound in zip(("ips", "dr"), clipped.bias, strict=True):
        assert 0.005 < world.value - values[name].value <= bound + 0.005, name
    assert clipped.ess > free.ess
    assert free.ess == pytest.approx(weight.sum() ** 2 / (weight**2).sum())


def test_doubly_robust_survives_wrong_propensities_if_the_model_is_right():
    """And a wrong model, if the propensities are right."""
    world = World.planted(7)
    same = replace(world, preferences=np.broadcast_to(world.preferences[:1, :1], world.preferences.shape))
    log = same.log(100_000, 8)
    twice = replace(log, propensity=np.minimum(2 * log.propensity, 1))
    right, wrong = (estimates(log_sums(rows, None, 2, 0)[0]) for rows in (log, twice))
    assert [right["ips"], right["dr"], wrong["dr"]] == pytest.approx([same.value] * 3, abs=0.005)
    assert wrong["ips"] < same.value - 0.05
    far = estimates(log_sums(replace(log, predicted=log.predicted + 5), None, 2, 0)[0])
    assert far["dr"] == pytest.approx(same.value, abs=0.05)


def test_the_mean_weight_is_the_share_of_the_target_that_the_log_can_show():
    world = World.planted(9)
    target = world.target.copy()
    target[:, 0] = world.logged[:, 6]  # the head is never explored
    values, _, diagnostics = summary(log_sums(replace(world, target=target).log(50_000, 1), None, 200, 0), 50_000, 0.95)
    share = diagnostics.mean_weight
    assert share.low <= 2 / 3 <= share.high < 0.7
    assert values["ips"].value < replace(world, target=target).value


def test_one_user_has_no_interval_and_equal_rewards_have_an_empty_one():
    one = Log(np.zeros(3, int), np.full(3, 0.5), np.ones(3), np.array([1.0, 0, 1]), np.zeros(3))
    values, gains, diagnostics = summary(log_sums(one, None, 50, 0), 1, 0.95)
    assert {(estimate.low, estimate.high) for estimate in [*values.values(), *gains.values()]} == {(None, None)}
    assert (values["snips"].value, values["ips"].value, diagnostics.ess) == (pytest.approx(2 / 3), 4 / 3, 3)
    many = Log(np.arange(50), np.ones(50), np.ones(50), np.ones(50), np.ones(50))
    values, _, _ = summary(log_sums(many, None, 50, 0), 50, 0.95)
    assert {(e.value, e.low, e.high) for e in values.values()} == {(1.0, 1.0, 1.0)}
    nothing = estimates(log_sums(replace(many, target=np.zeros(50)), None, 2, 0)[0])
    assert np.isnan(nothing["snips"])


def test_the_prediction_of_a_fold_does_not_see_its_own_rewards():
    sums, counts = np.array([[4.0, 0], [1, 6], [0, 0]]), np.array([[4, 0], [2, 6], [0, 3]])
    expected = [[0.5, 6 / 9], [1.0, 0.0], [5 / 6, 1.0]]
    np.testing.assert_allclose(cross_fitted_means(sums, counts), expected)
    np.testing.assert_allclose(cross_fitted_means(sums[:1], counts[:1]), [[0, 0]])
    assert len(SUMS) == len(set(SUMS))
