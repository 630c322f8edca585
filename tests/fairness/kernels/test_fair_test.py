"""The binomial test of FA*IR."""

from itertools import product

import numpy as np
import pytest

from recsys_spark.fairness.kernels.fair_test import _quantiles, least_protected, passed, passing_order


def test_quantiles_are_those_of_the_paper():
    # Zehlike et al. 2017, table 2: α = .1, before the adjustment for multiple tests.
    assert _quantiles(10, 0.5, 0.1).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3]
    assert _quantiles(10, 0.3, 0.1).tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1, 1]
    assert _quantiles(10, 0.7, 0.1).tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 5, 5]


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_all_prefixes_together_reject_a_fair_list_with_the_probability_asked_for(share):
    least = least_protected(8, share, 0.1)
    rejected = sum(
        share ** sum(one) * (1 - share) ** (8 - sum(one))
        for one in product([0, 1], repeat=8)
        if (np.cumsum(one) < least).any()
    )
    assert 0 < rejected <= 0.1


def test_lists_pass_and_keep_the_order_within_both_groups():
    random = np.random.default_rng(3)
    protected, sizes = random.random((40, 20)) < 0.3, random.integers(6, 21, 40)
    least = least_protected(6, 0.5, 0.1)
    order = passing_order(protected, sizes, least)
    enough = (protected & (np.arange(20) < sizes[:, None])).sum(axis=1) >= least[-1]
    assert (passed(order, protected, least) == enough).all()
    assert enough.any()
    assert (order >= 0).all(), "every list is full"
    for user, columns in enumerate(order):
        for group in (True, False):
            assert (np.diff(columns[protected[user, columns] == group]) > 0).all()


def test_a_list_that_passes_already_is_kept():
    protected = np.array([[True, False, True, False, True, False]])
    assert passing_order(protected, np.array([6]), least_protected(6, 0.5, 0.1)).tolist() == [[0, 1, 2, 3, 4, 5]]
