"""A run with nothing to do: decided by the driver from commits and files, and never where there is work.

The steps decide themselves, so there is no second logic that could drift: these runs refuse to start a session.
"""

import json
import os
import shutil
import subprocess
import sys
from datetime import date, datetime

import pytest
from deltalake import DeltaTable

from recsys_spark.encode.options import EncoderOptions
from recsys_spark.encode.steps.embed_texts import embed_texts
from recsys_spark.evaluate.options import EvaluationOptions
from recsys_spark.evaluate.steps.evaluate_recommendations import evaluate_recommendations
from recsys_spark.lake.lake import Lake
from recsys_spark.lake.provenance import Provenance
from recsys_spark.recommend.options import RecommendOptions
from recsys_spark.recommend.steps.recommend_items import recommend_items
from recsys_spark.refresh.steps.refresh_lake import RefreshOptions, refresh_lake
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.schemas import (
    EMBEDDINGS,
    EVENTS,
    FORGOTTEN,
    LIVE_RECOMMENDATIONS,
    RECOMMENDATIONS,
    STREAMED_EVENTS,
    TABLES,
)
from recsys_spark.topk.options import NeighborOptions
from recsys_spark.topk.steps.find_neighbors import find_neighbors
from tests.bench.stored_rows import commit_rows, staged
from tests.conftest import ROOT

DAY = date(2024, 3, 1)

AT = datetime(2024, 2, 20)

FEEDBACK = {"ignored_weight": -0.1, "explore": 0.1, "explore_slots": 2}


class WorkToDo(Exception):
    """A step wants Spark."""


class WithoutSpark(Run):
    """A run that stops where a session would start."""

    @property
    def spark(self):
        raise WorkToDo


class Night:
    """A copy of a lake, its sources and its model."""

    def __init__(self, folder):
        self.folder, self.data, self.model = folder, folder / "shop", folder / "model"
        self.lake = Lake(str(folder / "lake"))

    def options(self, **more):
        named = {"dataset": str(self.data / "shop.toml"), "data": str(self.data), "model": str(self.model), "k": 3}
        return RefreshOptions(lake=self.lake.uri, **{"run_date": DAY} | named | FEEDBACK | more)

    def refresh(self, kind=Run, **more):
        return refresh_lake(kind("refresh_lake", self.lake, Progress()), self.options(**more))

    def edit(self, name, old, new):
        file = self.data / name
        text = file.read_text(encoding="utf-8")
        assert old in text
        file.write_text(text.replace(old, new), encoding="utf-8")

    def drop(self, table):
        shutil.rmtree(self.folder / "lake" / table)

    def versions(self):
        return {table.name: self.lake.version(table) for table in TABLES.values()}


@pytest.fixture(scope="module")
def published(spark, shop, tiny_bert, tmp_path_factory):
    """A night that is published, with a live list of a user who has a later event; and the report of a run that has
    nothing to do."""
    folder = tmp_path_factory.mktemp("published")
    shutil.copytree(shop, folder / "shop")
    shutil.copytree(tiny_bert, folder / "model")
    night = Night(folder)
    # u1 has an event after those that ingest takes over, which are numbered up to its commit.
    commit_rows(night.lake, STREAMED_EVENTS, [("u1", "a4", "view", AT, None, 5)], "stream:1", append=True)
    night.refresh()
    live = [(user, "a1", 0.5, 1, DAY, "m", 5) for user in ("u1", "u3")]
    commit_rows(night.lake, LIVE_RECOMMENDATIONS, live, "stream:1")
    neighbors = NeighborOptions(lake=night.lake.uri, k=2)
    find_neighbors(Run("find_neighbors", night.lake, Progress()), neighbors)
    evaluation = EvaluationOptions(lake=night.lake.uri, run_date=DAY)
    evaluate_recommendations(Run("evaluate_recommendations", night.lake, Progress()), evaluation)
    second = night.refresh()  # profiles learn what the lists of the first run showed
    assert (second["profiles_made"], second["live_rows_cleared"]) == ("none", {"live_recommendations": 1})
    return night, night.refresh()


@pytest.fixture
def night(published, tmp_path):
    """A copy; its sources stay where they are, unless a test changes them there."""
    first, _ = published
    shutil.copytree(first.folder / "lake", tmp_path / "lake")
    copy = Night(tmp_path)
    copy.data, copy.model = first.data, first.model
    return copy


def own_sources(night):
    """The sources and the model of the test's own, at the path that commits name: copies have another one."""
    backup = night.folder / "backup"
    for folder in (night.data, night.model):
        shutil.copytree(folder, backup / folder.name)
    return backup


@pytest.fixture
def with_own_sources(night):
    """The night, whose sources and model are put back at the end, with their times."""
    backup = own_sources(night)
    yield night
    for folder in (night.data, night.model):
        shutil.rmtree(folder)
        shutil.copytree(backup / folder.name, folder)


def test_a_published_night_is_recognised_without_spark_by_the_same_report(published):
    night, slow = published
    before = night.versions()
    report = night.refresh(WithoutSpark)
    stages = report.pop("stages")
    assert list(stages) == list(slow["stages"])
    assert report == {name: value for name, value in slow.items() if name != "stages"}
    assert night.versions() == before, "nothing is committed"


def test_each_job_of_the_chain_recognises_its_result_without_spark(published):
    night, _ = published
    lists = RecommendOptions(**{k: v for k, v in night.options() if k in RecommendOptions.model_fields})
    steps = {
        recommend_items: lists,
        find_neighbors: NeighborOptions(lake=night.lake.uri, k=2),
        evaluate_recommendations: EvaluationOptions(lake=night.lake.uri, run_date=DAY),
    }
    for step, options in steps.items():
        assert step(WithoutSpark(step.__name__, night.lake, Progress()), options)["status"] == "unchanged", step


def test_neither_java_nor_torch_nor_pandas_is_loaded(published, tmp_path):
    night, slow = published
    program = (
        "import json, sys\n"
        "from jobs.refresh_lake import JOB\n"
        "from recsys_spark.runtime import lifecycle\n"
        "report, code = lifecycle.attempt(JOB, sys.argv[1:])\n"
        "loaded = {name.partition('.')[0] for name in sys.modules} | ({'scipy.stats'} & {*sys.modules})\n"
        "print(json.dumps([report, code, sorted(loaded & {'torch', 'pandas', 'transformers', 'scipy.stats'})]))\n"
    )
    named = {"lake": night.lake.uri, "run_date": DAY, "k": 3, "dataset": night.data / "shop.toml", "data": night.data}
    named |= {"model": night.model} | FEEDBACK
    arguments = [f"--{name}={value}" for name, value in named.items()]
    where = {k: v for k, v in os.environ.items() if not k.startswith("PYSPARK")}
    where |= {"PYTHONPATH": str(ROOT), "JAVA_HOME": str(tmp_path), "SPARK_HOME": str(tmp_path)}
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env=where, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report, code, loaded = json.loads(done.stdout)
    assert (code, report["status"], loaded) == (0, "unchanged", [])
    assert report["tables"] == slow["tables"]
    status = json.loads((night.folder / "lake" / "_status" / "refresh_lake" / f"{DAY}.json").read_text())
    assert status["status"] == "unchanged"


def touched(night):
    """The same bytes at another time."""
    os.utime(night.data / "log.csv", (1, 1))


SOURCES = {
    "another value in place": lambda night: night.edit("log.csv", "u1,a3,view", "u1,a4,view"),
    "another time of a file": touched,
    "another row": lambda night: night.edit("products.csv", "a6,wool hat", "a7,silk hat,,clothes,\na6,wool hat"),
    "another expression of the dataset file": lambda night: night.edit("shop.toml", '"{brand}."', '"By {brand}."'),
    "another byte of the model": lambda night: (night.model / "config.json").open("a").write(" "),
}


OPTIONS = {
    "run_date": date(2024, 3, 2),
    "k": 4,
    "full": True,
    "max_text_chars": 7,
    "prompt": "of: ",
    "pooling": "cls",
    "brand_weight": 0.7,
    "half_life_days": 3.0,
    "user_text_weight": 0.2,
    "ignored_weight": -0.2,
    "hybrid_ridge": 9.0,
    "scorer": "cosine",
    "min_score": 0.9,
    "explore": 0.2,
}


def streamed(night):
    commit_rows(night.lake, STREAMED_EVENTS, [("u1", "a4", "purchase", AT, None, 6)], "stream:1", append=True)


def forgotten(night):
    stones = staged(night.lake, FORGOTTEN, [("user", "hmac:0")])
    night.lake.commit(stones, "forget_users:1", append=True, provenance=Provenance(tombstone_key="0"))


def live_list(night):
    commit_rows(night.lake, LIVE_RECOMMENDATIONS, [("u2", "a1", 0.5, 1, DAY, "m", 6)], "stream:1")


def older_embeddings(night):
    """Restored after a later run of the same step: the log still names the run of this night."""
    first = night.lake.version(EMBEDDINGS)
    commit_rows(night.lake, EMBEDDINGS, [], "embed_texts:1", append=True)
    DeltaTable(night.lake.table_uri(EMBEDDINGS)).restore(first)


LAKE = {
    "an event of a stream": streamed,
    "a forgotten user": forgotten,
    "a live list": live_list,
    "embeddings of another program": lambda night: commit_rows(night.lake, EMBEDDINGS, [], "elsewhere"),
    "embeddings of an older version": older_embeddings,
    "no lists": lambda night: night.drop("recommendations"),
    "no log of changes": lambda night: night.drop("changes"),
    "no impressions": lambda night: night.drop("impressions"),
    "no exposures": lambda night: night.drop("exposures"),
    "no vectors": lambda night: night.drop("item_vectors"),
    "no weights": lambda night: night.drop("item_weights"),
    "lists of another program": lambda night: commit_rows(night.lake, RECOMMENDATIONS, [], "elsewhere"),
    "events of another program": lambda night: commit_rows(night.lake, EVENTS, [], "elsewhere"),
}


@pytest.mark.parametrize("change", ["embeddings of another program", "embeddings of an older version"])
def test_texts_are_looked_for_again_after_others_have_changed_the_embeddings(night, change):
    options = night.options().part(EncoderOptions)
    run = WithoutSpark("embed_texts", night.lake, Progress())
    assert embed_texts(run, options)["status"] == "unchanged"
    LAKE[change](night)
    with pytest.raises(WorkToDo):
        embed_texts(run, options)


@pytest.mark.parametrize("change", SOURCES)
def test_after_a_change_of_the_sources_there_is_work(with_own_sources, change):
    SOURCES[change](with_own_sources)
    with pytest.raises(WorkToDo):
        with_own_sources.refresh(WithoutSpark)


@pytest.mark.parametrize("name", OPTIONS)
def test_with_another_value_of_a_key_there_is_work(night, name):
    with pytest.raises(WorkToDo):
        night.refresh(WithoutSpark, **{name: OPTIONS[name]})


@pytest.mark.parametrize("change", LAKE)
def test_after_a_change_of_the_lake_there_is_work(night, change):
    LAKE[change](night)
    with pytest.raises(WorkToDo):
        night.refresh(WithoutSpark)
