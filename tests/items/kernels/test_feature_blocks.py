"""Unit blocks: what equals what, and by how much."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recsys_spark.arrays.vectors import unit_rows
from recsys_spark.items.kernels.feature_blocks import hashed_block, price_block, projected_block, side_by_side

FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=FLOATS))
def test_rows_become_unit_length_and_keep_their_direction(matrix):
    units = unit_rows(matrix)
    assert units.dtype == np.float32
    for row, scaled in zip(matrix.astype(np.float64), units, strict=True):
        length = np.sqrt((row * row).sum())
        np.testing.assert_allclose(scaled * length, row, rtol=1e-6, atol=length * 1e-6)
        assert np.linalg.norm(scaled) == pytest.approx(1 if row.any() else 0, abs=1e-6)


@pytest.mark.parametrize("row", [[3e38, 3e38], [1e-45, 0], [-1e-40, 1e-40]])
def test_lengths_beyond_float32_neither_overflow_nor_vanish(row):
    assert np.linalg.norm(unit_rows(np.array([row], np.float32))) == pytest.approx(1)


def test_rows_of_zeros_stay_zero():
    assert unit_rows(np.array([[0, 0], [0, 2]], np.float32)).tolist() == [[0, 0], [0, 1]]


def test_missing_names_equal_nothing_not_even_each_other():
    block = hashed_block([None, [], None, ["comedy"]], 16, "category")
    assert block.shape == (4, 16)
    assert (block @ block.T).round(6).tolist() == [[0, 0, 0, 0]] * 3 + [[0, 0, 0, 1]]


def test_a_name_has_the_same_vector_in_every_batch_order_and_process():
    alone = hashed_block([["comedy"]], 64, "category")[0]
    among = hashed_block([["action", "war"], ["comedy", "comedy"]], 64, "category")[1]
    assert alone.tolist() == among.tolist()
    assert (hashed_block([["b", "a"]], 64, "x") == hashed_block([["a", "b"]], 64, "x")).all()
    signs = "".join("+" if x > 0 else "-" for x in hashed_block([["comedy"]], 16, "category")[0])
    assert signs == "+-+--+-----+---+"  # written down: stored vectors outlive the process


def test_a_name_differs_between_blocks():
    [category], [brand] = hashed_block([["apple"]], 256, "category"), hashed_block([["apple"]], 256, "brand")
    assert abs(category @ brand) < 0.3


@pytest.mark.parametrize(
    ("left", "right", "cosine"),
    [
        (["a", "b"], ["a", "b"], 1),
        (["a", "b"], ["a", "c"], 1 / 2),
        (["a", "b", "c", "d"], ["d"], 1 / 2),
        (["a", "b", "c"], ["a", "b", "d"], 2 / 3),
        (["a", "b"], ["c", "d"], 0),
        (["naïve", "日本"], ["日本"], 0.5**0.5),
    ],
)
def test_shared_names_give_the_cosine_of_the_sets(left, right, cosine):
    block = hashed_block([left, right], 4096, "category")
    assert block[0] @ block[1] == pytest.approx(cosine, abs=0.06)  # four standard deviations


def test_dearer_is_a_larger_angle_and_near_prices_are_more_similar():
    cuts = np.quantile(np.arange(1, 1001.0), np.linspace(0, 1, 101))
    block = price_block(np.array([-5, 1, 10, 100, 500, 501, 990, 1000, 1e9]), cuts)
    angles = np.arctan2(block[:, 1], block[:, 0])
    assert (np.diff(angles) >= -1e-7).all()
    cheapest = block @ block[0]
    assert (np.diff(cheapest) <= 1e-7).all()
    assert cheapest[-1] == pytest.approx(0, abs=1e-6)
    assert block[4] @ block[5] > block[4] @ block[6]


@given(st.lists(st.floats(0, 100), min_size=2, max_size=20), st.lists(st.floats(-10, 110), min_size=2, max_size=20))
def test_price_is_monotone_whatever_the_catalogue(catalogue, prices):
    block = price_block(np.sort(np.array(prices)), np.sort(np.array(catalogue)))
    np.testing.assert_allclose(np.linalg.norm(block, axis=1), 1, rtol=1e-6)
    assert (np.diff(np.arctan2(block[:, 1], block[:, 0])) >= -1e-6).all()


def test_a_missing_price_and_a_catalogue_without_prices_give_zeros():
    assert price_block(np.array([np.nan, np.inf]), np.array([1.0, 2.0])).tolist() == [[0, 0], [0, 0]]
    assert price_block(np.array([1.0, np.nan]), np.array([])).tolist() == [[0, 0], [0, 0]]


def test_each_price_can_have_cuts_of_its_own():
    cuts = np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0], [np.nan] * 3])
    block = price_block(np.array([2.0, 2.0, 2.0]), cuts)
    alone = [price_block(np.array([2.0]), row)[0].tolist() for row in cuts[:2]]
    assert block.tolist() == [*alone, [0, 0]]


def test_one_price_for_all_makes_all_prices_equal():
    block = price_block(np.array([5.0, 5.0]), np.full(101, 5.0))
    assert block[0] @ block[1] == pytest.approx(1)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 10), st.floats(0.01, 10), st.floats(0.01, 10))
def test_the_dot_product_is_the_weighted_mean_of_the_block_cosines(seed, first, second, third):
    random = np.random.default_rng(seed)
    weights = {"a": first, "b": second, "c": third}
    blocks = {name: unit_rows(random.normal(size=(4, width))) for name, width in zip("abc", (3, 1, 5), strict=True)}
    joined = side_by_side(blocks, weights)
    expected = sum(weights[name] * (block @ block.T) for name, block in blocks.items()) / sum(weights.values())
    np.testing.assert_allclose(joined @ joined.T, expected, atol=2e-6)


def test_a_weight_of_zero_leaves_its_block_out():
    blocks = {"a": unit_rows(np.ones((2, 3))), "b": unit_rows(np.ones((2, 4)))}
    assert side_by_side(blocks, {"a": 1.0, "b": 0.0}).tolist() == blocks["a"].tolist()


def test_a_row_with_a_missing_block_is_still_of_unit_length():
    joined = side_by_side({"a": np.eye(2, dtype=np.float32), "b": np.zeros((2, 3), np.float32)}, {"a": 1.0, "b": 1.0})
    assert np.linalg.norm(joined, axis=1).tolist() == [1, 1]


def test_a_projection_keeps_cosines_about_whatever_the_batch():
    random = np.random.default_rng(3)
    dense = (random.random((6, 400)) < 0.3) * random.integers(1, 9, (6, 400))
    dense[4] = 0
    codes = random.integers(-(2**63), 2**63, 400)
    rows, columns = np.nonzero(dense)
    starts = np.searchsorted(rows, np.arange(7))
    projected = projected_block(starts, codes[columns], dense[rows, columns], 4000)
    unit = unit_rows(dense.astype(float))
    np.testing.assert_allclose(projected @ projected.T, unit @ unit.T, atol=5 / 4000**0.5)
    assert not projected[4].any()
    part = slice(starts[2], starts[4])
    batch = projected_block(starts[2:5] - starts[2], codes[columns][part], dense[rows, columns][part], 4000)
    assert batch.tobytes() == projected[2:4].tobytes()
    long = projected_block(np.array([0, 200_000]), np.arange(200_000), np.ones(200_000, np.int64), 8)
    assert np.linalg.norm(long) == pytest.approx(1)


BAD_NUMBERS = st.sampled_from([np.nan, np.inf, -np.inf, 1e308, -1e308, 0.0])


@given(
    arrays.arrays(np.float64, st.integers(1, 6), elements=st.floats(0, 1000)),
    st.integers(0, 6),
    BAD_NUMBERS,
    BAD_NUMBERS,
)
def test_a_bad_price_moves_the_price_block_of_no_other_row(prices, position, price, cut):
    cuts = np.sort(np.tile([1.0, 10.0, 100.0], (len(prices), 1)), axis=1)
    before, position = price_block(prices, cuts), min(position, len(prices))
    after = price_block(np.insert(prices, position, price), np.insert(cuts, position, [1.0, 10.0, cut], axis=0))
    assert np.delete(after, position, axis=0).tobytes() == before.tobytes()
    assert np.isfinite(after).all()


def test_cut_points_that_are_no_numbers_are_left_out():
    prices, cuts = np.array([1.0, 2.0, 9.0]), np.array([1.0, 2.0, 3.0])
    for bad in (np.nan, np.inf, -np.inf):
        assert price_block(prices, np.r_[cuts, bad]).tobytes() == price_block(prices, cuts).tobytes()
