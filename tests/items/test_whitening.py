"""Whitening through Spark: its moments, its life in the lake, and that users' texts get the transform of the items."""

from types import SimpleNamespace

import numpy as np
import pytest

from recsys_spark.errors import InputError, QualityError
from recsys_spark.items.kernels.whitening import Moments, whitening
from recsys_spark.items.options import BlockOptions
from recsys_spark.items.steps.build_item_vectors import build_item_vectors
from recsys_spark.items.vectors import FeatureBlocks, encoder_of, item_vector_rows, whitening_of
from recsys_spark.items.whitening import moment_rows, moments_of, whitened
from recsys_spark.profiles.options import ProfileOptions
from recsys_spark.profiles.steps.build_profiles import build_profiles
from recsys_spark.tables.schemas import EMBEDDINGS, ITEM_VECTORS, ITEMS, USER_PROFILES, USERS, WHITENINGS
from tests.bench.small_lake import DAY, Bench
from tests.bench.whitening import cone, slow

TEXTS = cone(40, 6)
TEXT_ONLY = {"category_weight": 0.0, "brand_weight": 0.0, "price_weight": 0.0}
MODEL = SimpleNamespace(fingerprint="enc")


@pytest.fixture
def bench(spark, tmp_path):
    return Bench(spark, tmp_path)


@pytest.fixture
def built(bench):
    """Item vectors of the first ``count`` texts, with the report; text n has the hash hn."""

    def build(count, **changes):
        bench.put(ITEMS, *((f"i{n:02}", None, "t", f"h{n}", None, None, None) for n in range(count)))
        bench.put(EMBEDDINGS, *((f"h{n}", "enc", vector.tolist()) for n, vector in enumerate(TEXTS)))
        return again(**changes)

    def again(**changes):
        options = BlockOptions(**{"lake": bench.lake.uri, "whitening": 0.1} | TEXT_ONLY | changes)
        report = build_item_vectors(bench.run, options, MODEL)
        rows = bench.lake.read(bench.spark, ITEM_VECTORS).orderBy("item_id").collect()
        return report, {row["model"] for row in rows}, np.array([row["embedding"] for row in rows], np.float32)

    build.again = again
    return build


def fits(bench):
    rows = bench.lake.read_or_empty(bench.spark, WHITENINGS).orderBy("shrink", "fit").collect()
    return [(row["model"], row["shrink"], row["fit"], row["items"]) for row in rows]


@pytest.mark.parametrize("partitions", [4, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 60))])
def test_moments_are_those_of_the_kernel_whatever_the_partitions(spark, partitions):
    frame = spark.createDataFrame([(v.tolist(),) for v in TEXTS[::-1]], "embedding array<float>")
    rows = moment_rows(frame.repartition(partitions)).collect()
    assert len(rows) == 7
    assert moments_of([tuple(row) for row in rows]).units.tobytes() == Moments.of(TEXTS).units.tobytes()


def test_no_vectors_have_no_moments(spark):
    assert moments_of(moment_rows(spark.createDataFrame([], "embedding array<float>")).collect()).count == 0


def test_item_vectors_of_the_text_block_only_are_the_whitened_texts(built):
    report, spaces, vectors = built(40)
    np.testing.assert_allclose(vectors, slow(TEXTS, 0.1), atol=2e-4)
    transform = whitening(Moments.of(TEXTS), 0.1)
    assert vectors.tobytes() == transform.apply(TEXTS).tobytes()
    assert (report["whitening"], report["whitening_fitted_on"]) == (transform.name, 40)
    assert [(encoder_of(space), whitening_of(space)) for space in spaces] == [("enc", transform.name)]


def test_without_whitening_nothing_is_fitted_and_the_space_keeps_its_name(bench, built):
    report, spaces, vectors = built(40, whitening=None)
    np.testing.assert_allclose(vectors, TEXTS, atol=1e-6)
    blocks = FeatureBlocks(category=0.0, brand=0.0, price=0.0)
    assert spaces == {blocks.space("enc")}
    assert whitening_of(blocks.space("enc")) is None
    assert "whitening" not in report
    assert bench.lake.version(WHITENINGS) is None


@pytest.mark.slow
def test_items_with_one_text_count_one_by_one(bench, built):
    built(40)
    bench.put(ITEMS, *((f"i{n}", None, "t", f"h{max(n, 5)}", None, None, None) for n in range(40)))
    report, _, _ = built.again(refit_whitening=True)
    weighted = Moments.of(TEXTS[[max(n, 5) for n in range(40)]])
    assert report["whitening"] == whitening(weighted, 0.1).name


def test_new_items_use_the_stored_transform_until_a_refit_is_due(bench, built):
    first, space, old = built(30)
    same, same_space, more = built(35)
    assert (same["status"], same["whitening"], same_space) == ("done", first["whitening"], space)
    assert more[:30].tobytes() == old.tobytes()
    assert fits(bench) == [("enc", 0.1, 1, 30)]
    due, due_space, _ = built(36)
    assert due["whitening_fitted_on"] == 36
    assert due_space != space
    assert fits(bench) == [("enc", 0.1, 1, 30), ("enc", 0.1, 2, 36)]
    back, back_space, _ = built(35)
    assert (back["whitening"], back_space) == (due["whitening"], due_space)  # the newest stays in use


@pytest.mark.slow
def test_a_refit_can_be_forced_and_a_second_run_does_nothing(bench, built):
    first, _, _ = built(30)
    built(31)
    forced, _, _ = built.again(refit_whitening=True)
    assert forced["whitening"] != first["whitening"]
    assert fits(bench)[-1] == ("enc", 0.1, 2, 31)
    assert built.again(refit_whitening=True)[0]["status"] == "unchanged"
    assert len(fits(bench)) == 2


@pytest.mark.slow
def test_each_shrink_has_a_transform_of_its_own(bench, built):
    spaces = [built(40)[1], built.again(whitening=0.5)[1], built.again()[1]]
    assert spaces[0] == spaces[2] != spaces[1]
    assert fits(bench) == [("enc", 0.1, 1, 40), ("enc", 0.5, 1, 40)]


@pytest.mark.slow
def test_lengths_and_cosines_are_compared_within_one_space_only(bench, built):
    built(40, drift_from_rows=1)
    report, _, _ = built.again(drift_from_rows=1, whitening=None)
    assert report["status"] == "done"
    with pytest.raises(QualityError, match="rows went from 40 to 10"):
        built(10, drift_from_rows=1)
    built(40, whitening=None)
    bench.put(EMBEDDINGS, *((f"h{n}", "enc", ((-1) ** n * vector).tolist()) for n, vector in enumerate(TEXTS)))
    with pytest.raises(QualityError, match="mean_cosine went from"):
        built.again(drift_from_rows=1, whitening=None)


def test_users_texts_get_the_transform_of_the_items(bench, built):
    _, spaces, _ = built(30)
    bench.put(USERS, ("u1", "t", "h35"), ("u2", None, None))
    bench.put_events()
    build_profiles(bench.run, ProfileOptions(lake=bench.lake.uri, run_date=DAY))
    rows = bench.lake.read(bench.spark, USER_PROFILES).collect()
    assert [(row["user_id"], row["model"]) for row in rows] == [("u1", *spaces)]
    white = whitening(Moments.of(TEXTS[:30]), 0.1).apply(TEXTS[35:36])[0]
    np.testing.assert_allclose(rows[0]["embedding"], 0.5 * white, atol=1e-6)


@pytest.mark.slow
def test_a_missing_transform_is_named(bench, built):
    built(30)
    bench.put(WHITENINGS)
    bench.put(USERS)
    bench.put_events()
    with pytest.raises(InputError, match="table 'whitenings' does not hold: run build_item_vectors with --refit_white"):
        build_profiles(bench.run, ProfileOptions(lake=bench.lake.uri, run_date=DAY))
    assert built.again(refit_whitening=True)[0]["status"] == "done"
    assert build_profiles(bench.run, ProfileOptions(lake=bench.lake.uri, run_date=DAY))["status"] == "done"


def test_a_row_without_a_direction_is_left_out(spark):
    transform = whitening(Moments.of(TEXTS), 0.1)
    rows = [("a", [0.0] * 6), ("b", TEXTS[0].tolist())]
    units = whitened(spark.createDataFrame(rows, "user_id string, embedding array<float>"), "user_id", transform)
    assert [row["user_id"] for row in units.collect()] == ["b"]
    items = spark.createDataFrame(
        [(name, name, None, None, None, None) for name in "ab"],
        "item_id string, text_hash string, category array<string>, brand string, price double, image_vec array<float>",
    )
    embeddings = spark.createDataFrame(
        [(name, "enc", vector) for name, vector in rows], "text_hash string, model string, embedding array<float>"
    )
    vectors = item_vector_rows(items, embeddings, "enc", FeatureBlocks(), transform).collect()
    assert [row["item_id"] for row in vectors] == ["b"]
