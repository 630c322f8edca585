"""Decay by newer baskets, against plain Python."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.ranking.kernels.recency import recency


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.5, 1.0, 2.0, 7.25, np.inf]))))
def test_each_newer_time_of_the_user_counts_once(entries):
    owners = np.array([owner for owner, _ in entries], np.int64)
    ages = np.array([age for _, age in entries], np.float32)
    expected = [
        2 ** (-len({other for one, other in entries if one == owner and other < age}) / 3) for owner, age in entries
    ]
    assert recency(owners, ages).tolist() == pytest.approx(expected)
