"""Calibrated lists, against the definition line by line."""

import numpy as np
import pytest
from scipy.stats import entropy

from recsys_spark.fairness.kernels.calibration import SMOOTHING, calibrated_order, divergence


def test_divergence_is_kullback_and_leiblers():
    p, q = np.array([0.5, 0.3, 0.2, 0.0]), np.array([0.2, 0.0, 0.7, 0.1])
    mixed = (1 - SMOOTHING) * q + SMOOTHING * p
    assert divergence(p, q) == pytest.approx((p[:3] * np.log(p[:3] / mixed[:3])).sum())
    assert divergence(p, p) == pytest.approx(entropy(p, p))
    assert divergence(np.zeros(4), q) == 0, "without a history there is nothing to be calibrated to"


@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
def test_every_step_takes_the_best_candidate(strength):
    random = np.random.default_rng(5)
    users, width, names, k = 6, 9, 4, 5
    gains = -np.sort(-random.random((users, width)), axis=1)
    shares = random.integers(0, 3, (users, width, names)) / 4
    history = random.dirichlet(np.ones(names), users)
    history[2] = 0
    sizes = np.array([9, 9, 9, 4, 0, 7])
    order = calibrated_order(gains, shares, history, sizes, strength, k)
    for user in range(users):
        chosen = []
        for place in range(min(k, sizes[user])):
            values = {
                item: (1 - strength) * gains[user, [*chosen, item]].sum()
                - strength * divergence(history[user], shares[user, [*chosen, item]].sum(axis=0) / (place + 1))
                for item in range(sizes[user])
                if item not in chosen
            }
            best = max(values.values())
            chosen.append(next(item for item, value in values.items() if value > best - 1e-12))
        assert order[user].tolist() == chosen + [-1] * (k - len(chosen))
    if strength == 0:
        assert order[0].tolist() == list(range(k))
