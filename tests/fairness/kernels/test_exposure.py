"""Floors on exposure, against a linear program and against all lists."""

from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from recsys_spark.fairness.kernels.exposure import (
    EXPOSURE,
    UNIT,
    Candidates,
    duality_gap,
    group_exposure,
    least_prices,
    needed_exposure,
    position_exposure,
    priced_order,
    unit_gains,
)


@st.composite
def problems(draw):
    """Candidates of some users, and floors of one or two groups."""
    users, width = draw(st.integers(1, 3)), draw(st.integers(2, 6))
    k, count = draw(st.integers(1, width)), draw(st.integers(1, 2))
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    scores = -np.sort(-random.integers(0, 6, (users, width)).astype(float), axis=1)
    sizes = random.integers(1, width + 1, users)
    groups = random.integers(-1, count, (users, width))
    shares = [Fraction(int(draw(st.integers(1, 10))), 10 * count) for _ in range(count)]
    head = draw(st.integers(0, 1))
    return Candidates(unit_gains(scores, sizes), groups, sizes, k, head), shares


def value_of(candidates, order):
    weights = np.where(order >= 0, position_exposure(order.shape[1]), 0)
    return int((weights * np.take_along_axis(candidates.gains, np.maximum(order, 0), axis=1)).sum())


def best_by_linear_program(candidates, shares):
    """Greatest value of random rankings that meet the floors; None if there are none."""
    users, width = candidates.gains.shape
    weights = position_exposure(candidates.k) / EXPOSURE
    cells = [
        (user, item, rank)
        for user in range(users)
        for item in range(candidates.sizes[user])
        for rank in range(min(candidates.k, candidates.sizes[user]))
        if (rank == item) or (rank >= candidates.head and item >= candidates.head)
    ]
    value = np.array([-weights[rank] * candidates.gains[user, item] / UNIT for user, item, rank in cells])
    ranks = {(user, rank) for user, _, rank in cells}
    equal = np.array([[(user, rank) == one for user, _, rank in cells] for one in sorted(ranks)], float)
    items = sorted({(user, item) for user, item, _ in cells})
    most = np.array([[(user, item) == one for user, item, _ in cells] for one in items], float)
    total = sum(weights[rank] for _, rank in ranks)
    floors = [
        [-weights[rank] * (candidates.groups[user, item] == group) for user, item, rank in cells]
        for group in range(len(shares))
    ]
    bounds = np.r_[np.ones(len(items)), [-float(share) * total for share in shares]] + 1e-9
    solved = linprog(value, np.vstack([most, floors]), bounds, equal, np.ones(len(equal)))
    return -solved.fun * EXPOSURE * UNIT if solved.success else None


@given(problems())
@settings(max_examples=150)
def test_floors_are_met_to_the_last_place_and_the_gap_bounds_the_linear_program(problem):
    candidates, shares = problem
    prices, met = least_prices(candidates, shares, by_list=False)
    order = priced_order(candidates, prices)
    assert ((order >= 0).sum(axis=1) == np.minimum(candidates.sizes, candidates.k)).all(), "every list is full"
    best = best_by_linear_program(candidates, shares)
    if not met[0]:
        assert len(shares) > 1 or best is None, "the floor of one group is met wherever it can be"
        return
    exposure, totals = group_exposure(order, candidates.groups, len(shares))
    needed = needed_exposure(totals.sum(keepdims=True), shares)[0]
    assert (exposure.sum(axis=0) >= needed).all()
    gap = duality_gap(prices[0], exposure.sum(axis=0), needed)
    value = value_of(candidates, order)
    assert best is not None
    slack = 1e-6 * EXPOSURE * UNIT
    assert value - slack <= best <= value + gap + slack


@given(problems())
@settings(max_examples=60)
def test_floors_hold_in_every_list_where_any_list_meets_them(problem):
    candidates, shares = problem
    prices, met = least_prices(candidates, shares[:1], by_list=True)
    order = priced_order(candidates, prices)
    exposure, totals = group_exposure(order, candidates.groups, 1)
    needed = needed_exposure(totals, shares[:1])
    for user, size in enumerate(candidates.sizes):
        weights, best = position_exposure(candidates.k), None
        for columns in permutations(range(size), int(min(size, candidates.k))):
            if columns[: candidates.head] != tuple(range(size))[: candidates.head]:
                continue
            given_exposure = sum(weights[at] for at, one in enumerate(columns) if candidates.groups[user, one] == 0)
            if given_exposure >= needed[user, 0]:
                reached = sum(int(weights[at]) * int(candidates.gains[user, one]) for at, one in enumerate(columns))
                best = reached if best is None else max(best, reached)
        assert met[user] == (best is not None)
        if met[user]:
            gap = duality_gap(prices[user], exposure[user], needed[user])
            value = value_of(candidates.of(np.array([user])), order[user : user + 1])
            assert exposure[user, 0] >= needed[user, 0]
            assert value <= best <= value + gap


def test_without_prices_the_scorers_order_stays():
    gains = unit_gains(np.array([[3.0, 2.0, 2.0, 1.0]]), np.array([4]))
    candidates = Candidates(gains, np.zeros((1, 4), np.int64), np.array([4]), 3)
    assert priced_order(candidates, np.zeros((1, 1), np.int64)).tolist() == [[0, 1, 2]]
    assert gains.tolist() == [[UNIT, UNIT // 2, UNIT // 2, 0]]


@pytest.mark.parametrize("share", [Fraction(1, 3), Fraction(1)])
def test_needed_exposure_is_rounded_up(share):
    assert needed_exposure(np.array([10]), [share])[0, 0] == -(-10 * share.numerator // share.denominator)
