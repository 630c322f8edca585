"""Features of candidates against plain Python."""

import math

import numpy as np
import pytest

from recsys_spark.ranking.kernels.code_lists import CodeLists
from recsys_spark.ranking.kernels.features import (
    FEATURES,
    ITEM_FEATURES,
    OWN_STATISTICS,
    Candidates,
    Users,
    pair_features,
)

USERS = Users(
    CodeLists(np.array([0, 2, 2, 3]), np.array([10, 20, 10])),
    np.array([[3, 31, 1, 2.5, 2.9], [1, 8, 8, 0.8, 0.9], [0, 5, 5, 0, 0]], np.float32),
)
CANDIDATES = Candidates(
    np.array([0, 0, 0, 1, 2]),
    np.array([7, 8, 9, 7, 7]),
    np.array([2.0, 4.0, 0.0, 0.0, 0.0], np.float32),
    np.array([1.0, 0.5, 0.0, 0.0, 0.0], np.float32),
    np.array([0.5, -0.5, np.nan, np.nan, 0], np.float32),
    np.array([0, 1, -1, -1, 2]),
)


@pytest.fixture(scope="module")
def table():
    items = np.arange(5 * len(ITEM_FEATURES), dtype=np.float32).reshape(5, -1)
    return pair_features(CANDIDATES, USERS, USERS.features(), items)


def column(table, name):
    return table[:, FEATURES.index(name)].tolist()


def test_item_features_are_passed_on(table):
    np.testing.assert_array_equal(table[:, : len(ITEM_FEATURES)].ravel(), np.arange(table[:, :12].size))


def test_scores_are_compared_with_the_best_of_the_user(table):
    assert column(table, "score") == [2, 4, 0, 0, 0]
    assert column(table, "score_share") == [0.5, 1, 0, 0, 0]
    assert column(table, "score_recent") == [1, 0.5, 0, 0, 0]
    assert column(table, "score_recent_share") == [1, 0.5, 0, 0, 0]
    np.testing.assert_equal(column(table, "text"), [0.5, -0.5, math.nan, math.nan, 0])


def test_an_item_that_the_user_had_has_its_statistics(table):
    assert column(table, "own_30") == pytest.approx([2.5, 0.8, 0, 0, 0])
    np.testing.assert_equal(column(table, "own_quiet"), [1, 8, math.nan, math.nan, 5])
    np.testing.assert_equal(column(table, "own_gap"), [15, math.nan, math.nan, math.nan, math.nan])
    assert column(table, "own_share") == pytest.approx([3 / 4, 1 / 4, 0, 0, 0])


def test_a_user_without_a_history_has_counts_of_0_and_no_age(table):
    assert column(table, "user_events") == pytest.approx([math.log(5)] * 3 + [0, 0])
    assert column(table, "user_items") == pytest.approx([math.log(3)] * 3 + [0, math.log(2)])
    np.testing.assert_equal(column(table, "user_age"), [31, 31, 31, math.nan, 5])
    np.testing.assert_equal(column(table, "user_quiet"), [1, 1, 1, math.nan, 5])


def test_statistics_have_the_names_that_the_kernel_reads():
    assert OWN_STATISTICS[:3] == ("times", "first", "last")


def test_entries_of_code_lists():
    lists = CodeLists(np.array([0, 2, 2, 4]), np.array([-5, 9, 3, 9]))
    users, codes = np.array([0, 0, 1, 2, 2, 2]), np.array([9, 3, 9, 9, -5, 3])
    assert lists.entries(users, codes).tolist() == [1, -1, -1, 3, -1, 2]
    assert CodeLists(np.array([0, 0]), np.array([], np.int64)).entries(users[:1], codes[:1]).tolist() == [-1]
