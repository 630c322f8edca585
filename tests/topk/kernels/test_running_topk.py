"""The running Top-K against a full sort, for any division of the items into blocks."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.topk.kernels.compilation import compiled_loops
from recsys_spark.topk.kernels.routes import NO_PAIRS, Route
from recsys_spark.topk.kernels.running_topk import EMPTY, RunningTopK, entries_of, ordinals_of, scores_of
from recsys_spark.topk.kernels.shortlist import NUMPY, ErrorBound, TileProduct, numpy_product


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


def in_bf16():
    from recsys_spark.topk.kernels.bf16_product import bf16_product

    return bf16_product(1)


def with_loops(tile_product):
    return replace(tile_product, loops=compiled_loops())


TILE_PRODUCTS = pytest.mark.parametrize(
    "tile_product",
    [lambda: NUMPY, in_bf16, lambda: with_loops(NUMPY), lambda: with_loops(in_bf16())],
    ids=["float32", "bfloat16", "float32 compiled", "bfloat16 compiled"],
)


def in_blocks(queries, items, k, cuts, excluded=(), order=None, tile_product=NUMPY):
    running = RunningTopK(queries, k, tile_product=tile_product)
    blocks = list(zip([0, *cuts], [*cuts, len(items)], strict=True))
    for start, stop in blocks if order is None else [blocks[number] for number in order]:
        inside = sorted((row, column - start) for row, column in excluded if start <= column < stop)
        pairs = np.array(inside, np.int64).reshape(-1, 2)
        running.update(items[start:stop], np.arange(start, stop), excluded=(pairs[:, 0], pairs[:, 1]))
    return running


def listed(running):
    """The lists without their empty entries."""
    lists = [row[row != EMPTY] for row in running.entries]
    return [list(zip(ordinals_of(row).tolist(), scores_of(row), strict=True)) for row in lists]


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


@TILE_PRODUCTS
@given(problem=problems())
def test_any_cut_and_any_order_of_the_blocks_equals_brute_force(tile_product, problem):
    queries, items, k, cuts, excluded, order = problem
    running = in_blocks(queries, items, k, cuts, excluded, order, tile_product())
    assert listed(running) == brute_force(queries, items, k, excluded)


@TILE_PRODUCTS
@given(seed=st.integers(0, 2**32 - 1), dimension=st.sampled_from([3, 64, 257]), step=st.integers(1, 40))
def test_near_ties_below_the_error_of_the_products_are_ordered_by_the_exact_score(tile_product, seed, dimension, step):
    random = np.random.default_rng(seed)
    centre = random.normal(size=dimension)
    items = unit(centre + random.normal(size=(40, dimension)) * 3e-7)  # cosines differ in the last bits only
    queries = unit(centre + random.normal(size=(6, dimension)) * 1e-3)
    running = in_blocks(queries, items, 5, list(range(step, 40, step)), tile_product=tile_product())
    assert listed(running) == brute_force(queries, items, 5)


@given(seed=st.integers(0, 2**32 - 1), dimension=st.integers(1, 300), scale=st.sampled_from([1e-3, 1.0, 30.0]))
def test_a_bfloat16_product_is_off_by_no_more_than_its_bound(seed, dimension, scale):
    from recsys_spark.topk.kernels.bf16_product import bf16_error_bound

    random = np.random.default_rng(seed)
    queries, items = (np.float32(scale) * random.normal(size=(n, dimension)).astype(np.float32) for n in (7, 50))
    free = np.full(7, -np.finfo(np.float32).max, np.float32)
    rows, columns, products = in_bf16().multiply(
        queries, items, free, np.finfo(np.float32).min, NO_PAIRS, 0, ErrorBound(np.float32(0))
    )
    exact = queries.astype(np.float64) @ items.T.astype(np.float64)
    assert len(rows) == exact.size
    scores, error = exact[rows, columns], bf16_error_bound(queries, items)
    assert (error.scores(products) <= scores).all()
    assert (scores <= -error.scores(-products)).all()
    assert (error.products(scores.astype(np.float32)) <= products).all()
    assert (error.rival(products) <= products).all()


@given(st.lists(st.floats(-(2.0**90), 2.0**90, width=32), min_size=2, max_size=2))
def test_bounds_in_bfloat16_are_never_below_and_keep_their_order(pair):
    from recsys_spark.topk.kernels.bf16_product import floats, ordered, round_up

    values = np.array(pair, np.float32)
    bounds = round_up(values)
    assert (floats(bounds) >= values).all()
    assert (floats(round_up(floats(bounds))) == floats(bounds)).all()
    low, high = sorted(range(2), key=lambda i: floats(bounds)[i])
    assert ordered(bounds)[low] <= ordered(bounds)[high] or floats(bounds)[low] == floats(bounds)[high]


def test_a_large_block_equals_many_small_ones_bit_for_bit():
    random = np.random.default_rng(3)
    queries, items = unit(random.normal(size=(50, 33))), unit(random.normal(size=(2000, 33)))
    whole, cut = in_blocks(queries, items, 10, []), in_blocks(queries, items, 10, list(range(7, 2000, 7)))
    assert whole.entries.tobytes() == cut.entries.tobytes()
    assert listed(whole) == brute_force(queries, items, 10)


def test_duplicates_longer_than_the_list_fall_to_the_smallest_ordinals():
    items = unit([[1, 0]] * 20 + [[0, 1]])
    running = RunningTopK(unit([[1, 0], [1, 1]]), 3)
    running.update(items[7:], np.arange(7, 21))
    running.update(items[:7], np.arange(7))
    assert ordinals_of(running.entries).tolist() == [[0, 1, 2], [0, 1, 2]]


def test_a_list_longer_than_the_catalogue_ends_in_empty_entries():
    running = RunningTopK(unit([[1, 0]]), 4)
    running.update(unit([[0, 1], [1, 0]]), np.array([10, 11]))
    assert listed(running) == [[(11, 1.0), (10, 0.0)]]
    assert scores_of(running.entries).tolist() == [[1.0, 0.0, -np.inf, -np.inf]]


def test_opposite_vectors_are_listed_when_nothing_better_is_there():
    running = RunningTopK(unit([[1, 0]]), 2)
    running.update(unit([[-1, 0]]), np.arange(1))
    assert listed(running) == [[(0, -1.0)]]


def test_a_query_with_every_item_excluded_has_an_empty_list_and_the_others_are_full():
    running = RunningTopK(unit([[1, 0], [0, 1]]), 2)
    seen = np.array([0, 0, 0]), np.array([0, 1, 2])
    running.update(unit([[1, 0], [0, 1], [1, 1]]), np.arange(3), excluded=seen)
    assert [[ordinal for ordinal, _ in row] for row in listed(running)] == [[], [1, 2]]


def test_the_best_item_excluded_makes_room_for_the_next():
    items = unit([[1, 0], [2, 1], [1, 1]])
    running = RunningTopK(unit([[1, 0]]), 2)
    running.update(items, np.arange(3), excluded=(np.array([0]), np.array([0])))
    assert ordinals_of(running.entries).tolist() == [[1, 2]]


def test_nothing_offered_leaves_the_lists_empty():
    running = RunningTopK(unit([[1, 0]]), 2)
    running.update(np.empty((0, 2), np.float32), np.empty(0, np.int64))
    assert listed(running) == [[]]


@pytest.mark.parametrize("loops", [False, True], ids=["NumPy", "compiled"])
@given(problem=problems())
def test_the_product_of_torch_gives_the_same_lists(loops, problem):
    from recsys_spark.topk.kernels.torch_product import torch_product

    queries, items, k, _, excluded, _ = problem
    tile_product = with_loops(torch_product("cpu")) if loops else torch_product("cpu")
    running = RunningTopK(queries, k, tile_product=tile_product)
    pairs = np.array(sorted(excluded), np.int64).reshape(-1, 2)
    inside = pairs[:, 1] < len(items)
    running.update(items, np.arange(len(items)), excluded=(pairs[inside, 0], pairs[inside, 1]))
    assert listed(running) == brute_force(queries, items, k, excluded)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 40)])
def test_tiles_of_any_size_give_the_same_lists(size):
    random = np.random.default_rng(6)
    queries, items = unit(random.normal(size=(9, 5))), unit(random.integers(-1, 2, (60, 5)) + 0.5)
    running = RunningTopK(queries, 4, tile_product=TileProduct(numpy_product, *size))
    running.update(items, np.arange(60))
    assert listed(running) == brute_force(queries, items, 4)


@pytest.mark.parametrize("k", [0, -1])
def test_k_must_be_at_least_1(k):
    with pytest.raises(ValueError, match=f"k must be at least 1, found {k}"):
        RunningTopK(unit([[1, 0]]), k)


@given(st.lists(st.tuples(st.floats(-2, 2, width=32), st.integers(0, 2**32 - 1)), min_size=1, max_size=30))
def test_entries_are_in_the_order_of_scores_descending_and_ordinals_ascending(pairs):
    scores, ordinals = np.array([s for s, _ in pairs], np.float32), np.array([o for _, o in pairs], np.int64)
    ordered = np.sort(entries_of(scores, ordinals))
    expected = sorted(((-np.float32(score) + 0.0, ordinal) for score, ordinal in pairs))
    assert [(-s + 0.0, o) for s, o in zip(scores_of(ordered), ordinals_of(ordered).tolist(), strict=True)] == expected


@st.composite
def ruled(draw):
    """A problem with groups, a minimum score, routes and allowed pairs."""
    queries, items, k, cuts, excluded, order = draw(problems())
    groups = np.array(draw(st.lists(st.integers(-1, 3), min_size=len(items), max_size=len(items))), np.int64)
    allowed_pairs = draw(
        st.sets(st.tuples(st.integers(0, len(queries) - 1), st.integers(0, len(items) - 1)), max_size=9)
    )
    routed = np.array(draw(st.lists(st.booleans(), min_size=len(queries), max_size=len(queries))))
    min_score, quotas = draw(st.one_of(st.none(), st.floats(-1, 1, width=32))), st.sampled_from([None, 1, 2, 3])
    return queries, items, k, groups, draw(quotas), allowed_pairs - excluded, routed, min_score, excluded


@pytest.mark.parametrize("loops", [False, True], ids=["NumPy", "compiled"])
@given(problem=ruled(), step=st.integers(1, 30))
def test_rules_equal_a_greedy_choice_from_the_sorted_catalogue(loops, problem, step):
    queries, items, k, groups, quota, allowed_pairs, routed, min_score, excluded = problem
    tile_product = with_loops(NUMPY) if loops else NUMPY
    running = RunningTopK(queries, k, min_score=min_score, quota=quota, tile_product=tile_product)
    for start in range(0, len(items), step):
        stop = min(start + step, len(items))
        seen, extra = (
            np.array([(r, c - start) for r, c in sorted(pairs) if start <= c < stop], np.int64).reshape(-1, 2).T
            for pairs in (excluded, {(r, c) for r, c in allowed_pairs if not routed[r]})
        )
        running.update(
            items[start:stop],
            np.arange(start, stop),
            routes=[Route(np.flatnonzero(routed), 0, stop - start)],
            excluded=(seen[0], seen[1]),
            allowed=(extra[0], extra[1]),
            groups=groups[start:stop] if quota else None,
        )
    expected = []
    for row, ranked in enumerate(brute_force(queries, items, len(items), excluded)):
        chosen, count = [], {}
        for item, score in ranked:
            above = min_score is None or score >= np.float32(min_score)
            eligible = above and (routed[row] or (row, item) in allowed_pairs)
            if eligible and (not quota or groups[item] < 0 or count.get(groups[item], 0) < quota):
                count[groups[item]] = count.get(groups[item], 0) + 1
                chosen.append((item, score))
        expected.append(chosen[:k])
    assert listed(running) == expected


def test_more_queries_than_sixteen_bits_can_number_take_their_routes():
    from recsys_spark.topk.kernels.torch_product import torch_product

    count = (1 << 16) + 900
    angles = np.linspace(0, 3, count)
    queries = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    running = RunningTopK(queries, 1, tile_product=torch_product("cpu"))
    running.update(unit([[1, 0], [0, 1]]), np.arange(2), routes=[Route(np.arange(1, count), 0, 2)])
    nearest = (queries[:, 1] > queries[:, 0]).astype(int)
    assert running.entries[0, 0] == EMPTY
    assert (ordinals_of(running.entries[1:, 0]) == nearest[1:]).all()
