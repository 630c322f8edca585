"""The running Top-K against a full sort, however the items are cut into blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.kernels.topk import NONE, RunningTopK


def unit(rows):
    wide = np.asarray(rows, np.float64)
    return (wide / np.sqrt((wide * wide).sum(axis=1, keepdims=True))).astype(np.float32)


def brute_force(queries, items, k, excluded=()):
    """Every pair in float64, rounded to float32, sorted by score descending and ordinal ascending."""
    lists = []
    for row, query in enumerate(queries):
        scores = [(query.astype(np.float64) * item).sum().astype(np.float32) for item in items]
        order = sorted(range(len(items)), key=lambda i: (-scores[i], i))
        lists.append([(i, scores[i]) for i in order if (row, i) not in excluded][:k])
    return lists


def in_blocks(queries, items, k, cuts, excluded=(), order=None):
    running = RunningTopK(queries, k)
    blocks = list(zip([0, *cuts], [*cuts, len(items)], strict=True))
    for start, stop in blocks if order is None else [blocks[place] for place in order]:
        inside = sorted((row, column - start) for row, column in excluded if start <= column < stop)
        pairs = np.array(inside, np.int64).reshape(-1, 2)
        running.update(items[start:stop], start, (pairs[:, 0], pairs[:, 1]))
    return running


def listed(running):
    """The lists without their empty places."""
    filled = running.ordinals != NONE
    return [
        list(zip(running.ordinals[row][filled[row]].tolist(), running.scores[row][filled[row]], strict=True))
        for row in range(len(filled))
    ]


@st.composite
def problems(draw):
    """Few small whole numbers in few dimensions: parallel vectors, exact duplicates and ties longer than k abound."""
    dimension = draw(st.integers(1, 6))
    numbers = st.lists(st.integers(-2, 2), min_size=dimension, max_size=dimension).filter(any)
    queries = unit(draw(st.lists(numbers, min_size=1, max_size=5)))
    items = unit(draw(st.lists(numbers, min_size=1, max_size=30)))
    cuts = sorted(cut for cut in draw(st.sets(st.integers(1, 29))) if cut < len(items))
    order = draw(st.permutations(range(len(cuts) + 1)))
    pairs = st.tuples(st.integers(0, len(queries) - 1), st.integers(0, len(items) - 1))
    return queries, items, draw(st.integers(1, 12)), cuts, draw(st.sets(pairs, max_size=40)), order


@settings(max_examples=150, deadline=None)
@given(problems())
def test_any_cut_and_any_order_of_the_blocks_equals_brute_force(problem):
    queries, items, k, cuts, excluded, order = problem
    running = in_blocks(queries, items, k, cuts, excluded, order)
    assert listed(running) == brute_force(queries, items, k, excluded)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), dimension=st.sampled_from([3, 64, 257]), step=st.integers(1, 40))
def test_near_ties_below_the_error_of_float32_are_ordered_by_the_exact_score(seed, dimension, step):
    random = np.random.default_rng(seed)
    centre = random.normal(size=dimension)
    items = unit(centre + random.normal(size=(40, dimension)) * 3e-7)  # cosines differ in the last bits only
    queries = unit(centre + random.normal(size=(6, dimension)) * 1e-3)
    running = in_blocks(queries, items, 5, list(range(step, 40, step)))
    assert listed(running) == brute_force(queries, items, 5)


def test_a_large_block_equals_many_small_ones_bit_for_bit():
    random = np.random.default_rng(3)
    queries, items = unit(random.normal(size=(50, 33))), unit(random.normal(size=(2000, 33)))
    whole, cut = in_blocks(queries, items, 10, []), in_blocks(queries, items, 10, list(range(7, 2000, 7)))
    assert whole.scores.tobytes() == cut.scores.tobytes()
    assert (whole.ordinals == cut.ordinals).all()
    assert listed(whole) == brute_force(queries, items, 10)


def test_duplicates_longer_than_the_list_fall_to_the_smallest_ordinals():
    items = unit([[1, 0]] * 20 + [[0, 1]])
    running = RunningTopK(unit([[1, 0], [1, 1]]), 3)
    running.update(items[7:], 7)
    running.update(items[:7], 0)
    assert running.ordinals.tolist() == [[0, 1, 2], [0, 1, 2]]


def test_a_list_longer_than_the_catalogue_ends_in_empty_places():
    running = RunningTopK(unit([[1, 0]]), 4)
    running.update(unit([[0, 1], [1, 0]]), 10)
    assert running.ordinals.tolist() == [[11, 10, NONE, NONE]]
    assert running.scores.tolist() == [[1.0, 0.0, -np.inf, -np.inf]]


def test_opposite_vectors_are_listed_when_nothing_better_is_there():
    running = RunningTopK(unit([[1, 0]]), 2)
    running.update(unit([[-1, 0]]), 0)
    assert listed(running) == [[(0, -1.0)]]


def test_a_query_with_every_item_excluded_has_an_empty_list_and_the_others_are_full():
    running = RunningTopK(unit([[1, 0], [0, 1]]), 2)
    running.update(unit([[1, 0], [0, 1], [1, 1]]), 0, (np.array([0, 0, 0]), np.array([0, 1, 2])))
    assert running.ordinals.tolist() == [[NONE, NONE], [1, 2]]


def test_the_best_item_excluded_makes_room_for_the_next():
    items = unit([[1, 0], [2, 1], [1, 1]])
    running = RunningTopK(unit([[1, 0]]), 2)
    running.update(items, 0, (np.array([0]), np.array([0])))
    assert running.ordinals.tolist() == [[1, 2]]


def test_nothing_offered_leaves_the_lists_empty():
    running = RunningTopK(unit([[1, 0]]), 2)
    running.update(np.empty((0, 2), np.float32), 5)
    assert running.ordinals.tolist() == [[NONE, NONE]]


@pytest.mark.parametrize("k", [0, -1])
def test_a_list_must_have_a_place(k):
    with pytest.raises(ValueError, match=f"k must be at least 1, found {k}"):
        RunningTopK(unit([[1, 0]]), k)
