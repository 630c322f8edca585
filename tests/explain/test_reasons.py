"""Reasons of published rows add up to the score, name only own events, and cost nothing unless requested."""

import math

import numpy as np
import pytest

from recsys_spark.errors import InputError, UsageError
from recsys_spark.explain.steps.reasons import sources
from recsys_spark.items.steps.build_item_vectors import build_item_vectors
from recsys_spark.lake.provenance import Provenance
from recsys_spark.recommend.steps.recommend_items import recommend_items
from recsys_spark.tables.schemas import (
    ITEM_VECTORS,
    RECOMMENDATIONS,
    USER_PROFILES,
)
from tests.bench.explained_lake import DAY, MODEL, Options, World, _time

ALL = 1000


@pytest.fixture(scope="module")
def world(spark, tmp_path_factory):
    return World(spark, tmp_path_factory.mktemp("lake"))


def check(world, rows):
    """In every row reasons add up to the score and blocks to their reason, and only own items are named."""
    own_items = {}
    for user, item, *_ in world.events:
        own_items.setdefault(user, set()).add(item)
    assert rows
    for row in rows:
        assert row["reasons"], row
        assert math.fsum(reason["contribution"] for reason in row["reasons"]) == pytest.approx(row["score"], abs=1e-5)
        for reason in row["reasons"]:
            blocks = [block["contribution"] for block in reason["blocks"]]
            assert math.fsum(blocks) == pytest.approx(reason["contribution"], abs=1e-6)
            assert (reason["item_id"] is None) == (reason["kind"] != "history")
            assert reason["item_id"] is None or reason["item_id"] in own_items[row["user_id"]]
            assert reason["sentence"]
        ranked = [reason["contribution"] for reason in row["reasons"] if reason["kind"] != "others"]
        assert ranked == sorted(ranked, reverse=True)


SETTINGS = [
    {},
    {"half_life_steps": 2.0, "max_events": 4},
    {"sif": 0.01, "user_text_weight": 0},
    {"segment_weight": 0.7, "user_text_weight": 1.5},
    {"brand_weight": 0, "price_weight": 0, "quota": 1, "diversity": 0.4},
    {"scorer": "hybrid"},
]


@pytest.mark.parametrize(
    "options",
    [SETTINGS[0], *(pytest.param(one, marks=pytest.mark.slow) for one in SETTINGS[1:5]), SETTINGS[5]],
    ids=lambda options: ", ".join(map(str, options.items())) or "defaults",
)
def test_reasons_of_all_rows_add_up_under_every_setting(world, options):
    report = world.refresh(explain=ALL, **options)
    everything = world.rows()
    check(world, everything)
    kinds = {reason["kind"] for row in everything for reason in row["reasons"]}
    assert "boost" in kinds
    assert "others" not in kinds
    assert ("own_text" in kinds) == (options.get("scorer") != "hybrid" and options.get("user_text_weight") != 0)
    assert ("segment" in kinds) == ("segment_weight" in options)
    negative = [reason for row in everything for reason in row["reasons"] if reason["contribution"] < 0]
    assert all("although" in reason["sentence"] for reason in negative)
    assert negative
    assert report["fidelity"]["users"] > 5
    if len(options) > 1:
        return  # the rest is checked for two settings
    world.refresh(explain=2, **options)
    short = world.rows()
    check(world, short)
    for whole, row in zip(everything, short, strict=True):
        assert row["reasons"][:2] == whole["reasons"][:2]
        assert [reason["kind"] for reason in row["reasons"][2:]] in ([], ["others"])


def test_contributions_equal_a_slow_reference(world):
    world.refresh(explain=ALL)
    vectors = {
        row["item_id"]: np.array(row["embedding"], float)
        for row in world.lake.read(world.spark, ITEM_VECTORS).collect()
    }
    stored = {
        row["user_id"]: np.array(row["embedding"]) for row in world.lake.read(world.spark, USER_PROFILES).collect()
    }
    counts = {"view": 1.0, "purchase": 3.0, "rating": 1.0, "skip": -1.0, "cancel": -3.0}
    for row in world.rows():
        own_events = [event for event in world.events if event[0] == row["user_id"]]
        newest = max((event[3] for event in own_events), default=None)
        parts = {}
        for _, item, kind, when, value in own_events:
            weight = counts[kind] * (value - 3 if kind == "rating" else 1)
            weight *= 2 ** (-(newest - when).total_seconds() / 86400 / 180)
            if item in vectors:
                product = weight * (vectors[item] @ vectors[row["item_id"]]) / np.linalg.norm(stored[row["user_id"]])
                parts[item] = parts.get(item, 0.0) + product
        contributions = {r["item_id"]: r["contribution"] for r in row["reasons"] if r["kind"] == "history"}
        assert contributions == pytest.approx({item: part for item, part in parts.items() if part}, abs=1e-5)


@pytest.mark.slow
def test_without_explain_no_reasons_and_no_item_blocks_are_written(spark, tmp_path):
    world = World(spark, tmp_path / "lake")
    assert "fidelity" not in world.refresh()
    assert {row["reasons"] for row in world.rows()} == {None}
    assert not (tmp_path / "lake" / "_blocks" / "items").exists()
    plain = _files(world)
    world.refresh(explain=1)
    written = {path.name for path in (tmp_path / "lake" / "recommendations").glob("*.parquet")}
    assert written == plain | _files(world), "what was staged without reasons is removed"


def _files(world):
    from deltalake import DeltaTable

    return {uri.rpartition("/")[2] for uri in DeltaTable(world.lake.table_uri(RECOMMENDATIONS)).file_uris()}


@pytest.mark.slow
def test_an_incremental_run_gives_the_reasons_of_a_full_one(spark, tmp_path):
    world = World(spark, tmp_path / "lake", boosts=False)
    world.refresh(explain=2)
    world.events.append((world.users[0], world.items[5], "purchase", _time(-1, 0), None))
    world.commit(1)
    report = world.refresh(explain=2)
    assert report["lists_made"] == "1 users who changed"
    assert report["fidelity"]["users"] > 5
    about = world.lake.last_commit(RECOMMENDATIONS).outcome.more
    assert about["fidelity"] == report["fidelity"]
    changed = world.rows()
    check(world, changed)
    whole = world.refresh(explain=2, full=True)
    assert changed == world.rows()
    assert whole["fidelity"] == report["fidelity"]


@pytest.mark.slow
def test_reasons_in_chinese(world):
    world.refresh(explain=1, language="zh")
    sentences = {reason["sentence"] for row in world.rows() for reason in row["reasons"] if reason["kind"] == "history"}
    assert any(sentence.startswith("因为您购买过《<b>i") for sentence in sentences)


def test_lists_of_an_unknown_scorer_are_not_explained_as_cosine():
    with pytest.raises(UsageError, match="lists of the scorer 'itemknn' have no explanation"):
        sources(None, None, Provenance(scorer="itemknn"))


@pytest.mark.slow
def test_profiles_of_other_vectors_cannot_be_explained(spark, tmp_path):
    world = World(spark, tmp_path / "lake")
    world.refresh()
    world.embeddings[world.items[2]] = np.ones(6)
    world.commit(1)
    options = Options(lake=world.lake.uri, run_date=DAY, k=6, category_prices=5, explain=1)
    build_item_vectors(world.run, options, MODEL)
    with pytest.raises(InputError, match="run build_profiles"):
        recommend_items(world.run, options)
