"""Maximal marginal relevance against its definition."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.arrays.vectors import unit_rows
from recsys_spark.topk.kernels.mmr import mmr_order


def greedy(scores, vectors, diversity, k):
    chosen = []
    while len(chosen) < min(k, len(scores)):
        rest = [position for position in range(len(scores)) if position not in chosen]
        near = {p: max((float(vectors[p].astype(float) @ vectors[c]) for c in chosen), default=0.0) for p in rest}
        chosen.append(max(rest, key=lambda p: ((1 - diversity) * float(scores[p]) - diversity * near[p], -p)))
    return chosen


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.floats(0, 1), st.integers(1, 12))
def test_the_order_is_greedy(seed, count, diversity, k):
    random = np.random.default_rng(seed)
    vectors = unit_rows(random.normal(size=(count, 7)))
    scores = -np.sort(-random.normal(size=count)).astype(np.float32)
    assert mmr_order(scores, vectors, diversity, k).tolist() == greedy(scores, vectors, diversity, k)


def test_without_diversity_the_order_of_the_scores_stays_and_with_it_a_copy_falls_back():
    vectors = unit_rows(np.array([[1, 0], [1, 0], [0, 1]]))
    scores = np.array([0.9, 0.89, 0.5], np.float32)
    assert mmr_order(scores, vectors, 0.0, 3).tolist() == [0, 1, 2]
    assert mmr_order(scores, vectors, 0.5, 3).tolist() == [0, 2, 1]
