"""Random numbers of a hash."""

import numpy as np

from recsys_spark.arrays import hashed_draws
from recsys_spark.arrays.hashed_draws import streams, uniform


def test_the_numbers_are_those_of_splitmix64():
    """The first three of the reference implementation for the seed 1234567."""
    numbers = np.uint64(1234567) + np.arange(1, 4, dtype=np.uint64) * np.uint64(hashed_draws._GOLDEN)
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert hashed_draws._mixed(numbers).tolist() == expected
    drawn = [uniform(np.array([1234567], np.uint64), place)[0] for place in range(3)]
    assert drawn == [(number >> 11) * 2.0**-53 for number in expected]


def test_numbers_are_uniform_and_change_with_the_seed():
    drawn = uniform(streams(np.arange(-5000, 5000)), 3)
    assert ((drawn >= 0) & (drawn < 1)).all()
    counts = np.histogram(drawn, 10, (0, 1))[0]
    assert (abs(counts - 1000) < 5 * 30).all()
    assert (uniform(streams(np.arange(9), 1), 0) != uniform(streams(np.arange(9), 2), 0)).all()
