"""Bad input through the command line and through the steps: one readable message, the right exit code, no output."""

import json
from datetime import date
from pathlib import Path

import pytest

from recsys_spark.encode.options import EncoderOptions
from recsys_spark.encode.steps.embed_texts import embed_texts
from recsys_spark.encode.steps.model_source import resolve_model
from recsys_spark.errors import InputError, UsageError
from recsys_spark.evaluate.options import EvaluationOptions
from recsys_spark.evaluate.steps.evaluate_recommendations import evaluate_recommendations
from recsys_spark.items.options import BlockOptions
from recsys_spark.items.steps.build_item_vectors import build_item_vectors
from recsys_spark.lake.lake import Lake
from recsys_spark.lake.provenance import Provenance
from recsys_spark.profiles.options import ProfileOptions
from recsys_spark.profiles.steps.build_profiles import build_profiles
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import EMBEDDINGS, ITEM_VECTORS, ITEMS, METRICS, RECOMMENDATIONS, USER_PROFILES, USERS
from tests.bench.jobs_here import run_job
from tests.bench.small_lake import DAY, VECTORS, Bench


def call(job, *arguments):
    """The job from its command line; only for what fails before a session is needed: it has none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "spark", None)
        done = run_job(job, *arguments)
    assert "Traceback" not in done.stdout + done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["job"] == job
    assert report["status"] == "failed"
    assert report["exit_code"] == done.returncode
    assert report["error"] in done.stderr
    return done.returncode, report["error"]


@pytest.fixture
def asked(tmp_path):
    """Arguments that would do, for a lake and raw data below ``tmp_path``."""
    (tmp_path / "data").mkdir()
    return {
        "lake": f"--lake={tmp_path / 'lake'}",
        "run_date": "--run_date=2024-03-01",
        "dataset": "--dataset=movielens_small",
        "data": f"--data={tmp_path / 'data'}",
    }


def test_every_fault_of_a_command_line_is_told_with_exit_2(asked, tmp_path):
    code, error = call("recommend_items", asked["lake"], "--rundate=2024-03-01", "--k=many", "loose")
    assert code == 2
    for part in ("did you mean 'run_date'?", "k (command line)", "--run_date is missing", "'loose' is not of the form"):
        assert part in error
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize(
    ("changed", "code", "said"),
    [
        ({"dataset": "--dataset=movielens_smal"}, 2, "did you mean 'movielens_small'?"),
        ({"dataset": "--dataset=/nope/mine.toml"}, 4, "/nope/mine.toml does not exist"),
        ({"data": "--data=/nope"}, 4, "/nope/movies.csv.gz does not exist"),
        ({}, 4, "movies.csv.gz does not exist"),
        ({"run_date": "--run_date=today"}, 2, "run_date (command line)"),
        ({"lake": "--lake=/proc/nope/lake"}, 4, "lake /proc/nope/lake is not writable"),
    ],
)
def test_ingest_names_what_is_wrong_before_it_starts_spark(changed, code, said, asked):
    found, error = call("ingest_tables", *(asked | changed).values())
    assert found == code
    assert said in error


@pytest.mark.parametrize(
    ("model", "code", "said"),
    [
        ("/nope", 4, "model folder /nope: no config.json there"),
        ("package:no_such_model", 2, "model package 'no_such_model' is not installed"),
        ("package:../etc", 2, "is not installed"),
    ],
)
def test_a_model_that_is_not_there_is_named(model, code, said, asked):
    found, error = call("embed_texts", asked["lake"], f"--model={model}")
    assert found == code
    assert said in error


def test_pickled_weights_are_refused(asked, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04N.")
    code, error = call("embed_texts", asked["lake"], f"--model={folder}")
    assert code == 2
    assert "pytorch_model.bin" in error
    assert "refused" in error


@pytest.mark.parametrize(
    ("job", "missing"),
    [
        ("recommend_items", "events, items, users, item_vectors, embeddings"),
        ("build_profiles", "events, users, item_vectors, embeddings"),
        ("evaluate_recommendations", "recommendations, events, items"),
    ],
)
def test_an_empty_lake_is_told_which_tables_are_missing(job, missing, asked, tmp_path):
    code, error = call(job, asked["lake"], asked["run_date"])
    assert code == 4
    assert f"has no table {missing}" in error
    kept = json.loads((tmp_path / "lake" / "_status" / job / "2024-03-01.json").read_text())
    assert (kept["status"], kept["exit_code"], kept["error"]) == ("failed", 4, error)


@pytest.fixture
def bench(spark, tmp_path):
    return Bench(spark, tmp_path)


def test_an_event_type_without_a_weight_is_refused_by_name(bench):
    bench.put_events(("u1", "a1", "view"), ("u1", "a2", "haggle"), ("u2", "a1", "barter"))
    bench.put(USERS)
    bench.put_vectors()
    bench.put(EMBEDDINGS)
    with pytest.raises(UsageError, match="without a weight: barter, haggle; add them to event_weights"):
        build_profiles(bench.run, ProfileOptions(lake=bench.lake.uri, run_date=DAY))
    assert bench.lake.version(USER_PROFILES) is None
    weights = {"view": 1.0, "haggle": 0.5, "barter": 0.0}
    report = build_profiles(bench.run, ProfileOptions(lake=bench.lake.uri, run_date=DAY, event_weights=weights))
    assert report["status"] == "done"


def test_two_vector_spaces_never_meet(bench):
    bench.put_vectors(model="minilm-1")
    bench.put_profiles(model="bge-1")
    bench.put_events()
    with pytest.raises(UsageError, match="user_profiles are in vector space bge-1, item_vectors in minilm-1"):
        bench.lists()
    assert bench.lake.version(RECOMMENDATIONS) is None


def test_a_table_that_mixes_vector_spaces_is_refused(bench):
    bench.put(ITEM_VECTORS, ("a1", "bge-1", [1.0, 0.0]), ("a2", "minilm-1", [1.0, 0.0]))
    bench.put_profiles(model="bge-1")
    bench.put_events()
    with pytest.raises(UsageError, match="table 'item_vectors' mixes the vector spaces bge-1 and minilm-1"):
        bench.lists()


def test_k_beyond_the_catalogue_and_users_who_have_seen_everything_give_short_lists(bench):
    bench.put_vectors()
    bench.put_profiles(users={"u1": [1.0, 0.1], "u2": [0.1, 1.0], "u3": [0.0, 0.0], "u4": [float("nan"), 1.0]})
    bench.put_events(*(("u2", item, "view") for item in VECTORS), ("u1", "a2", "view"), ("u1", "gone", "view"))
    report, lists = bench.lists(k=50)
    assert lists == [("u1", "a1", 1), ("u1", "a3", 2)]
    assert {row.reasons for row in bench.lake.read(bench.spark, RECOMMENDATIONS).collect()} == {None}
    assert not (Path(bench.lake.uri) / "_blocks" / "items").exists(), "item blocks are for reasons"
    assert (report["users"], report["profiles_dropped"], report["unfilled_slots"]) == (4, 2, 98)


def test_no_profiles_make_empty_lists_and_not_an_error(bench):
    bench.put_vectors()
    bench.put_profiles(users={})
    bench.put_events()
    report, lists = bench.lists()
    assert lists == []
    assert (report["tables"], report["users"], report["unfilled_slots"]) == ({"recommendations": 0}, 0, 0)


def test_an_empty_table_of_item_vectors_is_named(bench):
    bench.put_events(("u1", "a1", "view"))
    bench.put(USERS)
    bench.put(ITEM_VECTORS)
    bench.put(EMBEDDINGS)
    with pytest.raises(InputError, match="table 'item_vectors' is empty"):
        build_profiles(bench.run, ProfileOptions(lake=bench.lake.uri, run_date=DAY))


def test_lists_of_another_day_are_not_evaluated(bench):
    bench.put(RECOMMENDATIONS, ("u1", "a1", 1.0, 1, date(2024, 2, 1), "m-1"))
    bench.put_events(("u1", "a1", "view"))
    bench.put(ITEMS, ("a1", "tea", "tea", "h", None, None, None))
    with pytest.raises(InputError, match="holds lists for run_date 2024-02-01, not for 2024-03-01"):
        evaluate_recommendations(bench.run, EvaluationOptions(lake=bench.lake.uri, run_date=DAY))


def test_lists_of_an_unknown_scorer_are_not_stored_as_cosine(bench):
    bench.put(RECOMMENDATIONS, ("u1", "a1", 1.0, 1, DAY, "m-1"), provenance=Provenance(scorer="itemknn"))
    bench.put_events(("u1", "a1", "view"))
    bench.put(ITEMS, ("a1", "tea", "tea", "h", None, None, None))
    with pytest.raises(UsageError, match="lists of the scorer 'itemknn' cannot be evaluated"):
        evaluate_recommendations(bench.run, EvaluationOptions(lake=bench.lake.uri, run_date=DAY))
    assert bench.lake.version(METRICS) is None


def test_items_embedded_by_another_model_are_not_taken_for_this_one(bench, tiny_bert):
    bench.put(ITEMS, ("a1", "tea", "tea", "h", None, None, None))
    bench.put(EMBEDDINGS, ("h", "other", [1.0, 0.0]))
    model = resolve_model(EncoderOptions(lake=bench.lake.uri, model=str(tiny_bert)))
    with pytest.raises(InputError, match=f"no item has an embedding of model {model.fingerprint}"):
        build_item_vectors(bench.run, BlockOptions(lake=bench.lake.uri), model)
    assert bench.lake.version(ITEM_VECTORS) is None


def test_texts_of_any_script_and_items_without_a_text_are_embedded_or_left_out(bench, tiny_bert):
    odd = {"h1": "🫖", "h2": "שלום", "h3": "\ufffd", "h4": "x" * 5000, "h5": "日本語"}
    rows = [(f"a{place}", None, text, name, None, None, None) for place, (name, text) in enumerate(odd.items())]
    bench.put(ITEMS, *rows, ("none", None, None, None, None, None, None))
    bench.put(USERS)
    options = EncoderOptions(lake=bench.lake.uri, model=str(tiny_bert))
    report = embed_texts(bench.run, options)
    assert (report["texts_encoded"], report["texts_failed"], report["texts_truncated"]) == (5, 0, 1)
    assert embed_texts(bench.run, options)["status"] == "unchanged"


def test_a_catalogue_without_any_text_embeds_nothing(bench, tiny_bert):
    bench.put(ITEMS, ("a1", None, None, None, None, None, None))
    bench.put(USERS)
    report = embed_texts(bench.run, EncoderOptions(lake=bench.lake.uri, model=str(tiny_bert)))
    assert (report["status"], report["texts_encoded"], report["tokens"]) == ("done", 0, 0)
    assert (bench.lake.version(EMBEDDINGS), bench.lake.rows(EMBEDDINGS)) == (0, 0)


def test_a_relative_lake_is_the_same_lake_from_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lake = Lake("lake")
    monkeypatch.chdir("/")
    assert Path(lake.uri) == tmp_path / "lake"
