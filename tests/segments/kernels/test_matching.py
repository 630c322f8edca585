"""Ids that last, and segments of enough users."""

from itertools import permutations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.segments.kernels.matching import matched_ids, merged_segments


@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=3, max_size=3))
def test_the_matching_has_the_most_users_in_common(table):
    overlap = np.array(table)
    ids = matched_ids(overlap, [10, 20, 30], 31)
    assert len(set(ids.tolist())) == 3
    common = sum(overlap[[10, 20, 30].index(one), new] for new, one in enumerate(ids) if one < 31)
    assert common == max(sum(overlap[old, new] for new, old in enumerate(order)) for order in permutations(range(3)))


def test_segments_without_common_users_get_ids_that_were_never_given():
    assert matched_ids(np.array([[5, 0, 0]]), [2], 7).tolist() == [2, 7, 8]
    assert matched_ids(np.zeros((0, 2), np.int64), [], 4).tolist() == [4, 5]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(1, 20))
def test_no_segment_is_smaller_than_the_floor(counts, least):
    random = np.random.default_rng(len(counts))
    centroids = random.normal(size=(len(counts), 4))
    target = merged_segments(counts, centroids / np.linalg.norm(centroids, axis=1, keepdims=True), least)
    sizes = {one: sum(n for n, to in zip(counts, target, strict=True) if to == one) for one in set(target.tolist())}
    assert len(sizes) == 1 or min(sizes.values()) >= least
    assert all(target[one] == one for one in sizes)


def test_two_small_segments_that_are_near_make_one():
    centroids = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    assert merged_segments([3, 3, 10], centroids, 5).tolist() == [1, 1, 2]
