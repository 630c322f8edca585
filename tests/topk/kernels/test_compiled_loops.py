"""Compiled selection and scores against NumPy, bit for bit."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.topk.kernels.compilation import compiled_loops
from recsys_spark.topk.kernels.exact_scores import exact_scores, longest
from recsys_spark.topk.kernels.routes import Route
from recsys_spark.topk.kernels.running_topk import RunningTopK, ordinals_of
from recsys_spark.topk.kernels.shortlist import NUMPY, TileProduct, float32_product, numpy_product


def in_bf16():
    from recsys_spark.topk.kernels.bf16_product import bf16_product

    return bf16_product(1)


def compiled(tile_product, threads=1):
    return replace(tile_product, loops=compiled_loops(), threads=threads)


BOTH = pytest.mark.parametrize("product", [lambda: NUMPY, in_bf16], ids=["float32", "bfloat16"])


def lists(queries, items, k, tile_product, step=None, **rules):
    running = RunningTopK(queries, k, tile_product=tile_product)
    for start in range(0, len(items), step or len(items)):
        part = items[start : start + (step or len(items))]
        running.update(part, np.arange(start, start + len(part)), **rules)
    return running.entries


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def vectors(seed, count, dimension, kind):
    random = np.random.default_rng(seed)
    if kind == "clusters":
        rows = random.normal(size=(7, dimension))[random.integers(0, 7, count)]
        return unit(rows + random.normal(size=(count, dimension)) * random.choice([0, 1e-7, 1e-3], (count, 1)))
    if kind == "extremes":
        sizes = 10.0 ** random.integers(-18, 18, (count, dimension))
        return (random.choice([-1.0, 0.0, 1.0], (count, dimension)) * sizes).astype(np.float32)
    return random.normal(size=(count, dimension)).astype(np.float32)


KINDS = st.sampled_from(["clusters", "normal"])


@BOTH
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 700), st.sampled_from([1, 3, 17, 64])),
    k=st.sampled_from([1, 5, 40, 1000]),
    step=st.sampled_from([None, 65, 300]),
    kind=KINDS,
)
def test_lists_equal_those_of_numpy(product, seed, shape, k, step, kind):
    queries, items = vectors(seed, shape[0], shape[2], kind), vectors(seed + 1, shape[1], shape[2], kind)
    tile_product = replace(product(), rows=16, columns=130)
    expected = lists(queries, items, k, tile_product, step)
    assert (lists(queries, items, k, compiled(tile_product), step) == expected).all()


@BOTH
def test_more_equal_products_than_there_is_room_for_fall_to_the_smallest_ordinals(product):
    random = np.random.default_rng(5)
    items = np.concatenate([random.normal(size=(200, 8)), np.tile([1.0] * 8, (900, 1)), random.normal(size=(200, 8))])
    queries = unit(np.concatenate([np.tile([1.0] * 8, (3, 1)) + random.normal(size=(3, 8)) * 1e-4, items[:2]]))
    items = unit(items)
    expected = lists(queries, items, 3, product())
    assert ordinals_of(expected[0]).tolist() == [200, 201, 202]
    assert (lists(queries, items, 3, compiled(product())) == expected).all()
    turned = items[::-1].copy()
    assert (lists(queries, turned, 3, compiled(product())) == lists(queries, turned, 3, product())).all()


@BOTH
def test_routes_excluded_pairs_and_threads_change_no_list(product):
    queries, items = vectors(1, 150, 9, "clusters"), vectors(2, 500, 9, "clusters")
    routes = [Route(np.arange(0, 150, 2), 0, 200), Route(np.arange(150), 200, 333), Route(np.arange(7), 333, 500)]
    seen = np.repeat(np.arange(150), 3), np.random.default_rng(0).integers(0, 500, 450)
    expected = lists(queries, items, 10, product(), routes=routes, excluded=seen)
    for threads in (1, 3):
        found = lists(queries, items, 10, compiled(product(), threads), routes=routes, excluded=seen)
        assert (found == expected).all()


@given(
    seed=st.integers(0, 2**32 - 1),
    dimension=st.integers(1, 400),
    kind=st.sampled_from(["clusters", "normal", "extremes"]),
)
def test_scores_have_the_bits_of_numpy(seed, dimension, kind):
    queries, items = vectors(seed, 12, dimension, kind), vectors(seed + 1, 30, dimension, kind)
    rows, columns = np.repeat(np.arange(12), 30), np.tile(np.arange(30), 12)
    loops = compiled_loops()
    lengths = longest(queries, loops) * longest(items, loops)
    with np.errstate(over="ignore"):  # of scores beyond float32
        expected = exact_scores(queries, rows, items, columns)
        found = exact_scores(queries, rows, items, columns, loops, lengths)
    assert (found + np.float32(0)).tobytes() == (expected + np.float32(0)).tobytes()


def test_a_sum_at_the_border_of_two_float32_is_left_to_numpy():
    queries = np.array([[1, 2.0**-24, 2.0**-60]], np.float32)  # 1 + 2⁻²⁴ lies midway between two float32
    items = np.array([[1, 1, 1], [1, 1, 0], [1, 1, -1], [1, 0.5, 0]], np.float32)
    loops, unsure, scores = compiled_loops(), np.empty(4, np.int64), np.empty(4, np.float32)
    rows, columns = np.zeros(4, np.int64), np.arange(4)
    count = loops.score(queries, items, rows, columns, columns, 1e-14, scores, unsure)
    assert unsure[:count].tolist() == [0, 1, 2]
    assert scores[3] == 1


def test_the_kth_bound_of_a_row_is_found_for_any_floats():
    loops = compiled_loops()
    random = np.random.default_rng(0)
    for count, k in ((1, 1), (7, 3), (64, 64), (500, 100)):
        values = random.choice([-1, 1], count) * 10.0 ** random.integers(-30, 30, count)
        products = np.zeros((1, 600), np.float32)
        products[0, :count] = values
        floor, counts = np.full(1, -np.inf, np.float32), np.array([count])
        listed, columns = np.full((1, k), -np.inf, np.float32), np.zeros((1, 600), np.int32)
        loops.thin(floor, np.float32(0), False, listed, columns, products, counts)
        assert floor[0] == np.sort(values.astype(np.float32))[count - k]
        assert counts[0] == k


def test_a_row_with_fewer_bounds_than_k_keeps_its_floor_and_its_pairs():
    floor, counts, listed = np.zeros(1, np.float32), np.array([3]), np.array([[9, 8, -np.inf, -np.inf]], np.float32)
    products, columns = np.array([[5, -1, 7]], np.float32), np.array([[0, 1, 2]], np.int32)
    compiled_loops().thin(floor, np.float32(0), False, listed[:, :3].copy(), columns, products, counts)
    assert (floor[0], counts[0], products[0, 0]) == (7, 1, 7)  # of 9, 8, 7, 5 and -1 the third
    counts[0] = 1
    compiled_loops().thin(floor, np.float32(0), False, listed, columns, products, counts)
    assert (floor[0], counts[0]) == (7, 1)


def test_tiles_of_any_size_give_the_same_lists():
    queries, items = vectors(3, 20, 5, "normal"), vectors(4, 200, 5, "normal")
    expected = lists(queries, items, 4, NUMPY)
    for size in ((1, 1), (7, 63), (20, 64), (3, 129)):
        tile_product = compiled(TileProduct(numpy_product, *size, raw=float32_product))
        assert (lists(queries, items, 4, tile_product) == expected).all()
