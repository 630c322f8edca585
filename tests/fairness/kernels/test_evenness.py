"""Prices of items that spread exposure."""

import numpy as np
import pytest

from recsys_spark.fairness.kernels.evenness import even_prices, gini_of_exposure
from recsys_spark.fairness.kernels.exposure import Candidates, position_exposure, priced_order, unit_gains


def crowded(users=60, items=30, width=12):
    """Users who have the same few favourites."""
    random = np.random.default_rng(1)
    order = np.stack([np.argsort(np.arange(items) + random.normal(0, 6, items))[:width] for _ in range(users)])
    sizes = np.full(users, width)
    scores = np.tile(np.linspace(1, 0, width), (users, 1))
    return Candidates(unit_gains(scores, sizes), np.full(order.shape, -1), sizes, 4), order


def exposures(candidates, items, prices):
    priced = Candidates(candidates.gains + prices[items], candidates.groups, candidates.sizes, candidates.k)
    order = priced_order(priced, np.zeros((1, 0), np.int64))
    assert (order >= 0).all()
    listed = np.take_along_axis(items, order, axis=1)
    return np.bincount(listed.ravel(), np.broadcast_to(position_exposure(4), listed.shape).ravel(), 30)


def test_more_strength_spreads_exposure_over_more_items():
    candidates, items = crowded()
    ginis = [
        gini_of_exposure(exposures(candidates, items, even_prices(candidates, items, 30, strength)))
        for strength in (0.0, 0.2, 0.8)
    ]
    assert ginis[0] > ginis[1] > ginis[2]
    assert ginis[2] < 0.8 * ginis[0]


def test_gini_is_that_of_all_pairs():
    values = np.array([0.0, 1.0, 5.0, 2.0])
    pairs = np.abs(values[:, None] - values).sum()
    assert gini_of_exposure(values) == pytest.approx(pairs / (2 * 16 * values.mean()))
