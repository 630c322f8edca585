"""Pooling against ``np.add.at``, bit for bit."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.profiles.kernels.pooling import accumulate


def pairs(seed, users, count, dimension):
    random = np.random.default_rng(seed)
    rows = np.sort(random.integers(0, users, count))
    weights = random.normal(size=count) * 10.0 ** random.integers(-9, 9, count)  # sums whose order matters
    return rows, weights, random.normal(size=(count, dimension)).astype(np.float32)


def in_sequence(users, rows, weights, vectors):
    sums = np.zeros((users, vectors.shape[1]))
    np.add.at(sums, rows, weights[:, None] * vectors)
    return sums


@given(
    seed=st.integers(0, 2**32 - 1),
    users=st.integers(1, 6),
    count=st.integers(0, 60),
    cuts=st.sets(st.integers(0, 60), max_size=5),
)
def test_any_cut_gives_the_bits_of_a_sum_in_sequence(seed, users, count, cuts):
    rows, weights, vectors = pairs(seed, users, count, 4)
    borders = [0, *sorted(cut for cut in cuts if cut < count), count]
    sums = np.zeros((users, 4))
    for start, stop in zip(borders[:-1], borders[1:], strict=True):
        accumulate(sums, rows[start:stop], weights[start:stop], vectors[start:stop])
    assert sums.tobytes() == in_sequence(users, rows, weights, vectors).tobytes()


def test_the_sum_is_in_float64():
    sums = np.zeros((1, 1))
    accumulate(sums, np.array([0, 0]), np.array([1.0, 2.0**-40]), np.ones((2, 1), np.float32))
    assert sums[0, 0] == 1 + 2.0**-40


def test_rows_without_pairs_stay_as_they_were():
    sums = np.full((3, 2), 5.0)
    accumulate(sums, np.array([1]), np.array([-1.0]), np.array([[1, 2]], np.float32))
    assert sums.tolist() == [[5, 5], [4, 3], [5, 5]]


def test_no_pairs_change_nothing():
    sums = np.ones((2, 2))
    accumulate(sums, np.empty(0, np.int64), np.empty(0), np.empty((0, 2), np.float32))
    assert sums.tolist() == [[1, 1], [1, 1]]
