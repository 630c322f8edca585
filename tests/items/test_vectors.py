"""Items to vectors: text, category, brand and price side by side."""

import numpy as np
import pyarrow as pa
import pytest
from pyspark.errors import PythonException

from recsys_spark.errors import UsageError
from recsys_spark.items.vectors import FeatureBlocks, _images, encoder_of, item_vector_rows

ITEM_DDL = (
    "item_id string, text_hash string, category array<string>, brand string, price double, image_vec array<float>"
)
EMBEDDING_DDL = "text_hash string, model string, embedding array<float>"
ITEMS = [
    ("full", "h1", ["film", "war"], "acme", 10.0),
    ("twin", "h1", ["film", "war"], "acme", 10.0),
    ("other brand", "h1", ["film", "war"], "zenith", 10.0),
    ("no brand", "h1", ["film", "war"], None, 10.0),
    ("no brand either", "h1", ["film", "war"], None, 10.0),
    ("dear", "h1", ["film", "war"], "acme", 999.0),
    ("text alone", "h1", None, None, None),
    ("text alone too", "h1", [], "", None),
    ("upright", "h2", ["film", "war"], "acme", 10.0),
    ("not embedded", "h3", ["film"], "acme", 10.0),
    ("no text", None, ["film"], "acme", 10.0),
]
EMBEDDINGS = [
    ("h1", "enc", [1.0, 0.0, 0.0]),
    ("h2", "enc", [0.0, 1.0, 0.0]),
    ("h1", "another", [0.0, 0.0, 1.0]),
    ("h3", "another", [0.0, 0.0, 1.0]),
]
BLOCKS = FeatureBlocks(text=1.0, category=0.5, brand=0.3, price=0.2)


def built(spark, blocks, items=ITEMS):
    full = [(*item, None)[:6] for item in items]
    frames = spark.createDataFrame(full, ITEM_DDL), spark.createDataFrame(EMBEDDINGS, EMBEDDING_DDL)
    rows = item_vector_rows(*frames, "enc", blocks).collect()
    assert {row["model"] for row in rows} == {blocks.space("enc")}
    return {row["item_id"]: np.array(row["embedding"], np.float32) for row in rows}


@pytest.fixture(scope="module")
def vectors(spark):
    return built(spark, BLOCKS)


def test_vectors_are_of_unit_length_whatever_is_missing(vectors):
    for vector in vectors.values():
        assert vector.shape == (3 + 64 + 32 + 2,)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_items_without_an_embedding_of_this_encoder_are_absent(vectors):
    assert set(vectors) == {item[0] for item in ITEMS} - {"not embedded", "no text"}


@pytest.mark.parametrize(
    ("left", "right", "cosine", "error"),
    [
        ("full", "twin", 1.0, 1e-6),
        ("full", "upright", 0.5, 1e-6),  # all but the text, of weight 1 in 2
        ("full", "other brand", 1.7 / 2, 0.3 / 2 * 0.75),  # unrelated names are nearly orthogonal only
        ("full", "no brand", 1.7 / (2 * 1.7) ** 0.5, 1e-6),
        ("no brand", "no brand either", 1.0, 1e-6),
        ("text alone", "text alone too", 1.0, 1e-6),
        ("full", "text alone", 1 / 2**0.5, 1e-6),
    ],
)
def test_cosines_are_weighted_means_of_what_both_items_have(vectors, left, right, cosine, error):
    assert vectors[left] @ vectors[right] == pytest.approx(cosine, abs=error)


def test_a_missing_brand_adds_nothing_to_a_score(vectors):
    brand = slice(3 + 64, 3 + 64 + 32)
    assert not vectors["no brand"][brand].any()
    assert not vectors["text alone too"][brand].any()
    assert vectors["full"][brand].any()


def test_another_price_is_less_similar(vectors):
    assert 1.8 / 2 - 1e-6 < vectors["full"] @ vectors["dear"] < 1


def test_weights_of_zero_leave_only_the_embedding(spark):
    vectors = built(spark, FeatureBlocks(category=0, brand=0, price=0))
    assert vectors["full"].tolist() == [1, 0, 0]
    assert vectors["upright"].tolist() == [0, 1, 0]


def test_a_catalogue_without_any_price_has_empty_price_blocks(spark):
    vectors = built(spark, BLOCKS, [(*item[:4], None) for item in ITEMS[:2]])
    assert [vector[-2:].tolist() for vector in vectors.values()] == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    "other",
    [
        FeatureBlocks(text=2.0),
        FeatureBlocks(category=0),
        FeatureBlocks(brand=0.2),
        FeatureBlocks(price=1),
        FeatureBlocks(image=1),
        FeatureBlocks(category_dimension=65),
        FeatureBlocks(category_prices=9),
    ],
)
def test_the_space_is_named_after_the_encoder_and_every_weight(other):
    assert FeatureBlocks().space("enc") == FeatureBlocks().space("enc")
    assert other.space("enc") != FeatureBlocks().space("enc") != FeatureBlocks().space("another")
    assert encoder_of(other.space("enc")) == "enc"


@pytest.mark.parametrize("price", [float("nan"), float("inf"), float("-inf"), None])
def test_a_price_that_is_no_number_moves_no_other_item(price, spark):
    items = [("a", "h1", ["k"], None, 1.0), ("b", "h1", ["k"], None, 600.0), ("c", "h1", None, None, 5.0)]
    before, after = built(spark, BLOCKS, items), built(spark, BLOCKS, [*items, ("x", "h1", ["k"], None, price)])
    assert (before["a"] != before["b"]).any()
    for name, vector in before.items():
        np.testing.assert_array_equal(after[name], vector)
    assert not after["x"][-2:].any(), "an empty price block"


def priced(spark, items, category_prices):
    """item → the quantile of its price, between 0 and 1."""
    blocks = FeatureBlocks(category=0.0, brand=0.0, price=0.5, category_prices=category_prices)
    vectors = built(spark, blocks, items)
    return {name: np.arctan2(vector[-1], vector[-2]) / (np.pi / 2) for name, vector in vectors.items()}


def test_prices_are_compared_within_a_category_of_enough_prices_else_in_the_whole_catalogue(spark):
    cheap = [(f"pen {n:02}", "h1", ["office", "pens"], None, float(n)) for n in range(20)]
    dear = [(f"car {n:02}", "h1", ["vehicles", "cars"], None, 1000.0 + n) for n in range(20)]
    few = [(f"pin {n}", "h1", ["office", "pins"], None, 19.0) for n in range(3)]
    loose = [("loose", "h1", None, None, 1019.0), ("priceless", "h1", ["pens"], None, None)]
    quantiles = priced(spark, cheap + dear + few + loose, 20)
    assert set(quantiles) == {item[0] for item in cheap + dear + few + loose}
    for kind in ("pen", "car"):
        of_kind = [quantiles[f"{kind} {n:02}"] for n in range(20)]
        assert of_kind == sorted(of_kind)
        assert of_kind[0] < 0.05
        assert of_kind[-1] > 0.95
    assert quantiles["pin 0"] == pytest.approx(0.5, abs=0.05)
    assert quantiles["loose"] > 0.95
    whole = priced(spark, cheap + dear + few + loose, 21)
    assert whole["pen 19"] == pytest.approx(0.5, abs=0.05)
    assert whole["car 00"] > 0.5


def test_prices_that_are_no_numbers_move_no_other_item(spark):
    good = [(f"pen {n}", "h1", ["pens"], None, float(n)) for n in range(1, 7)]
    bad = [(f"bad {n}", "h1", ["pens"], None, x) for n, x in enumerate(map(float, ("nan", "inf", "-inf", "nan")))]
    blocks = FeatureBlocks(category=0.0, brand=0.0, price=0.5, category_prices=3)
    before, after = (built(spark, blocks, items) for items in (good, good + bad))
    assert all(after[name].tobytes() == vector.tobytes() for name, vector in before.items())
    assert before["pen 1"].tobytes() != before["pen 6"].tobytes()
    assert not any(after[name][-2:].any() for name, *_ in bad)


GIVEN = {"same": [1.0, 0.0], "twice": [2.0, 0.0], "across": [0.0, 1.0], "none": None, "zero": [0.0, 0.0]}


def pictured(spark, given, **weights):
    items = [(name, "h1", None, None, None, vector) for name, vector in given.items()]
    return built(spark, FeatureBlocks(text=1.0, category=0.0, brand=0.0, price=0.0, **weights), items)


def test_given_vectors_are_one_more_block_and_a_missing_one_equals_nothing(spark):
    vectors = pictured(spark, GIVEN, image=1.0)
    assert {vector.shape for vector in vectors.values()} == {(5,)}
    pairs = {("same", "twice"): 1.0, ("same", "across"): 0.5, ("same", "none"): 0.5**0.5, ("none", "zero"): 1.0}
    for (left, right), cosine in pairs.items():
        assert vectors[left] @ vectors[right] == pytest.approx(cosine, abs=1e-6)
    assert not vectors["none"][3:].any()


def test_without_given_vectors_or_weight_there_is_no_such_block(spark):
    assert {vector.shape for vector in pictured(spark, {"none": None}, image=1.0).values()} == {(3,)}
    assert {vector.shape for vector in pictured(spark, GIVEN, image=0.0).values()} == {(3,)}


def test_given_vectors_of_two_models_are_refused_within_a_batch_and_across_batches(spark):
    with pytest.raises(PythonException, match="of 2 and of 3 dimensions: it mixes two models"):
        pictured(spark, {f"i{n}": [1.0] * (2 + n // 4) for n in range(5)}, image=1.0)
    batch = pa.table({"image_vec": pa.array([[1.0, 0.0], None], pa.list_(pa.float32())), "image_dimension": [3, 3]})
    with pytest.raises(UsageError, match="image_vec of 2 and of 3 dimensions: it mixes two models"):
        _images(batch)
