"""The days of a temporal split, and whether times are real."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.evaluate.kernels.split_days import LEAST_DAYS, has_real_times, window_days


def test_a_test_has_the_last_tenth_of_the_events_and_validation_the_tenth_before():
    days, one_each = np.arange(100, 200), np.ones(100, int)
    assert window_days(days, one_each, 1) == [(179, 189, None)]
    assert window_days(days, one_each, 3) == [(159, 169, 179), (169, 179, 189), (179, 189, None)]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 4))
def test_windows_follow_upon_each_other_and_leave_a_day_to_fit_on(events, windows):
    days = np.cumsum(np.arange(len(events)) % 3 + 1)
    found = window_days(days, np.array(events), windows)
    if found is None:
        assert len(days) < windows + 2 or max(events) > 0.1 * sum(events)
        return
    assert len(found) == windows
    assert found[-1][2] is None
    for (valid, test, until), (next_valid, next_test, _) in zip(found, found[1:], strict=False):
        assert (next_valid, next_test) == (test, until)
        assert valid < test
    assert days[0] < found[0][0] < found[0][1]


@pytest.mark.parametrize("days", [1, 2])
def test_one_or_two_days_cannot_be_split(days):
    assert window_days(np.arange(days), np.ones(days, int), 1) is None


def test_one_day_with_nearly_all_events_is_fitted_on():
    assert window_days(np.arange(5), np.array([100, 1, 1, 1, 1]), 1) is None
    assert window_days(np.arange(5), np.array([1, 1, 1, 1, 100]), 1) == [(3, 4, None)]


def test_positions_and_short_logs_are_no_real_times():
    assert has_real_times(LEAST_DAYS, 100, 10)
    assert not has_real_times(LEAST_DAYS - 1, 100, 10)
    assert not has_real_times(200, 100, 100)  # every history begins on position 1
    assert not has_real_times(200, 1, 1)
