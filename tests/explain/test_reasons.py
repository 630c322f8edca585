"""Reasons of published rows add up to the score, name only own events, and cost nothing unless requested."""

import math
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from recsys_spark.encode.kernels.model_folder import ModelSpec
from recsys_spark.errors import InputError
from recsys_spark.hybrid.options import WeightOptions
from recsys_spark.hybrid.steps.fit_item_weights import fit_item_weights
from recsys_spark.items.options import BlockOptions
from recsys_spark.items.steps.build_item_vectors import build_item_vectors
from recsys_spark.lake.lake import Lake
from recsys_spark.profiles.options import ProfileOptions
from recsys_spark.profiles.steps.build_profiles import build_profiles
from recsys_spark.recommend.options import TopKOptions
from recsys_spark.recommend.steps.recommend_items import recommend_items
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.schemas import (
    EMBEDDINGS,
    EVENTS,
    ITEM_VECTORS,
    ITEMS,
    RECOMMENDATIONS,
    USER_PROFILES,
    USER_RULES,
    USERS,
)

DAY = date(2024, 3, 1)
MODEL = ModelSpec("nowhere", "weights", "files")
TYPES = ("view", "purchase", "rating", "skip", "cancel")
ALL = 1000


class Options(ProfileOptions, WeightOptions, TopKOptions, BlockOptions):
    """Keys of the steps."""


class World:
    """A small lake: items with all feature blocks, users with texts, likes and dislikes."""

    def __init__(self, spark, folder, boosts=True, users=12, items=20, title="<b>{}</b>"):
        self.spark, self.lake = spark, Lake(str(folder))
        self.title, self.run = title, Run("refresh_lake", self.lake, Progress())
        random = np.random.default_rng(3)
        self.items, self.users = [f"i{n:02}" for n in range(items)], [f"u{n:02}" for n in range(users)]
        self.embeddings = {text: random.normal(size=6) for text in [*self.items[1:], *self.users[::2]]}
        self.events = [
            (
                user,
                self.items[random.integers(items)],
                TYPES[random.integers(5)],
                _time(-int(random.integers(1, 90)), number),
                float(random.integers(1, 6)),
            )
            for number, user in enumerate(self.users[:-1] * 7)
        ]
        self.boosts = {item: [None, 0.05, -0.1][n % 3] if boosts else None for n, item in enumerate(self.items)}
        self.commit(0)

    def commit(self, night):
        items = [
            (
                i,
                self.title.format(i),
                i,
                i,
                [["a", "b"], ["a", "c"], None][n % 3],
                [None, "x", "y"][n % 3],
                3.0 * n,
                "de",
                None,
            )
            + (None, self.boosts[i], None)
            for n, i in enumerate(self.items)
        ]
        rows = {
            ITEMS: items,
            USERS: [(u, u, u, "de" if n % 3 else "fr", [f"age: {n % 2}"]) for n, u in enumerate(self.users)],
            EVENTS: self.events,
            USER_RULES: [],
            EMBEDDINGS: [(t, MODEL.fingerprint, (v / np.linalg.norm(v)).tolist()) for t, v in self.embeddings.items()],
        }
        for table, records in rows.items():
            self.lake.commit(self.lake.stage(self.spark.createDataFrame(records, table.ddl), table), f"sources-{night}")

    def refresh(self, **more):
        options = Options(lake=self.lake.uri, run_date=DAY, k=6, category_prices=5, user_block_rows=5, **more)
        build_item_vectors(self.run, options, MODEL)
        if options.scorer == "hybrid":
            fit_item_weights(self.run, options)
        else:
            build_profiles(self.run, options)
        return recommend_items(self.run, options)

    def rows(self):
        return self.lake.read(self.spark, RECOMMENDATIONS).orderBy("user_id", "rank").collect()


def _time(days, seconds):
    return datetime(2024, 3, 1, tzinfo=UTC) + timedelta(days=days, seconds=seconds)


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


@pytest.mark.parametrize("options", SETTINGS, ids=lambda options: ", ".join(map(str, options.items())) or "defaults")
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


def test_reasons_in_chinese(world):
    world.refresh(explain=1, language="zh")
    sentences = {reason["sentence"] for row in world.rows() for reason in row["reasons"] if reason["kind"] == "history"}
    assert any(sentence.startswith("因为您购买过《<b>i") for sentence in sentences)


def test_profiles_of_other_vectors_cannot_be_explained(spark, tmp_path):
    world = World(spark, tmp_path / "lake")
    world.refresh()
    world.embeddings[world.items[2]] = np.ones(6)
    world.commit(1)
    options = Options(lake=world.lake.uri, run_date=DAY, k=6, category_prices=5, explain=1)
    build_item_vectors(world.run, options, MODEL)
    with pytest.raises(InputError, match="run build_profiles"):
        recommend_items(world.run, options)
