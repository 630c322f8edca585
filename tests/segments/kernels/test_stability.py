"""Stable segments."""

import numpy as np
import pytest

from recsys_spark.segments.kernels.stability import adjusted_rand_index, centred, chosen_segments


def pairs_index(one, other):
    """The adjusted Rand index by all pairs."""
    n = len(one)
    both = first = second = 0
    for a in range(n):
        for b in range(a):
            same = one[a] == one[b], other[a] == other[b]
            both, first, second = both + all(same), first + same[0], second + same[1]
    expected = first * second / (n * (n - 1) / 2)
    return (both - expected) / ((first + second) / 2 - expected)


def test_the_index_is_that_of_all_pairs():
    random = np.random.default_rng(2)
    one, other = random.integers(0, 3, 40), random.integers(0, 4, 40)
    assert adjusted_rand_index(one, other) == pytest.approx(pairs_index(one, other))
    assert adjusted_rand_index(one, (one + 1) % 3) == 1
    assert adjusted_rand_index(np.zeros(5, int), np.zeros(5, int)) == 1


def test_the_number_of_planted_groups_is_found():
    random = np.random.default_rng(4)
    centres = np.eye(8)[:3]
    vectors = centres[np.arange(240) % 3] + random.normal(0, 0.05, (240, 8))
    centroids, tried = chosen_segments(centred(vectors, vectors.mean(axis=0)), [6, 5, 4, 3, 2], 0.98, 4, 0)
    assert len(centroids) == 3
    assert tried[3] > 0.98 > max(tried[6], tried[5], tried[4])


def test_without_a_stable_number_the_most_stable_is_taken():
    noise = np.random.default_rng(5).normal(0, 1, (200, 8))
    centroids, tried = chosen_segments(centred(noise, noise.mean(axis=0)), [5, 3], 1.0, 3, 0)
    assert tried[len(centroids)] == max(tried.values()) < 1
