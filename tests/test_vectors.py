"""Items to vectors: text, category, brand and price side by side."""

import numpy as np
import pytest

from recsys_spark.vectors import Blocks, build_item_vectors, encoder_of

ITEM_DDL = "item_id string, text_hash string, category array<string>, brand string, price double"
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
BLOCKS = Blocks(text=1.0, category=0.5, brand=0.3, price=0.2)


def built(spark, blocks, items=ITEMS):
    frames = spark.createDataFrame(items, ITEM_DDL), spark.createDataFrame(EMBEDDINGS, EMBEDDING_DDL)
    rows = build_item_vectors(*frames, "enc", blocks).collect()
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


def test_weights_of_zero_leave_the_embedding_alone(spark):
    vectors = built(spark, Blocks(category=0, brand=0, price=0))
    assert vectors["full"].tolist() == [1, 0, 0]
    assert vectors["upright"].tolist() == [0, 1, 0]


def test_a_catalogue_without_any_price_has_empty_price_blocks(spark):
    vectors = built(spark, BLOCKS, [(*item[:4], None) for item in ITEMS[:2]])
    assert [vector[-2:].tolist() for vector in vectors.values()] == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    "other",
    [Blocks(text=2.0), Blocks(category=0), Blocks(brand=0.2), Blocks(price=1), Blocks(category_dimension=65)],
)
def test_the_space_is_named_after_the_encoder_and_every_weight(other):
    assert Blocks().space("enc") == Blocks().space("enc")
    assert other.space("enc") != Blocks().space("enc") != Blocks().space("another")
    assert encoder_of(other.space("enc")) == "enc"
