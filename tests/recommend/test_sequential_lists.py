"""Lists by a sequence encoder as a user meets them: equal to sorted inner products, and refusals in words."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from recsys_spark.sequence.kernels.model_files import read_sequence_files, write_sequence_files
from recsys_spark.sequence.kernels.user_encoder import encoded_users
from tests.bench.jobs_here import run_job
from tests.bench.sequence_models import random_model
from tests.bench.spark_submit import last_json

DAY = "2024-01-06"
NEW = "i39"
"""An item that the model did not learn and that nobody has had."""


@pytest.fixture(scope="module")
def shop(spark, walks, tiny_bert, tmp_path_factory) -> tuple[Path, Path]:
    """A lake with embedded items, and the folder of a model that reads the embeddings."""
    folder = tmp_path_factory.mktemp("sequential")
    lake, model, data = folder / "lake", folder / "model", folder / "data"
    data.mkdir()
    for name in ("walks.toml", "products.csv"):
        (data / name).write_bytes((walks / name).read_bytes())
    log = (walks / "log.csv").read_text().splitlines()
    (data / "log.csv").write_text("\n".join(line for line in log if f",{NEW}," not in line) + "\n")
    dataset = (f"--dataset={data / 'walks.toml'}", f"--data={data}")
    for job, more in (("ingest_tables", (*dataset, f"--run_date={DAY}")), ("embed_texts", (f"--model={tiny_bert}",))):
        done = run_job(job, f"--lake={lake}", *more)
        assert done.returncode == 0, done.stderr
    embeddings = rows_of(lake, "embeddings")
    ids = sorted(row["item_id"] for row in rows_of(lake, "items") if row["item_id"] != NEW)
    made = random_model(ids, embeddings[0]["model"], dimension=len(embeddings[0]["embedding"]))
    write_sequence_files(made, model)
    return lake, model


def rows_of(lake: Path, table: str) -> list[dict]:
    return DeltaTable((lake / table).as_uri()).to_pyarrow_table().to_pylist()


def recommend(shop, **given):
    lake, model = shop
    keys = {"lake": lake, "run_date": DAY, "scorer": "sequential", "sequence_model": model, "k": 20} | given
    return run_job("recommend_items", *(f"--{key}={value}" for key, value in keys.items()))


def lists_of(lake: Path) -> list[tuple]:
    names = ("user_id", "rank", "item_id", "score", "model")
    return sorted(tuple(row[name] for name in names) for row in rows_of(lake, "recommendations"))


def oracle(shop, k: int) -> dict[str, list[tuple[str, float]]]:
    """The k items with the greatest inner products of each user's state, and these by the greatest possible."""
    lake, model = shop[0], read_sequence_files(shop[1])
    by_text = {row["text_hash"]: row["embedding"] for row in rows_of(lake, "embeddings")}
    items = {row["item_id"]: by_text[row["text_hash"]] for row in rows_of(lake, "items")}
    ids = sorted(items)
    vectors = model.item_vectors(pa.array(ids), np.array([items[name] for name in ids], np.float32)).astype(np.float64)
    greatest = np.linalg.norm(vectors, axis=1).max()
    users = {}
    for row in sorted(rows_of(lake, "events"), key=lambda row: row["timestamp"]):
        if str(row["timestamp"])[:10] < DAY:
            users.setdefault(row["user_id"], []).append(ids.index(row["item_id"]))
    lists = {}
    for user, history in users.items():
        newest = np.array(history[-3:])
        state = encoded_users(model, vectors.astype(np.float32), newest, np.array([0, len(newest)]), "cpu", 1)[0]
        scores = vectors @ state.astype(np.float64)
        scores[history] = -np.inf
        best = np.argsort(-scores)[:k]
        lists[user] = [(ids[item], scores[item] / greatest / np.linalg.norm(state)) for item in best]
    return lists


def test_lists_are_the_greatest_inner_products_and_a_new_item_is_listed_by_its_text(shop):
    lake, folder = shop
    first = recommend(shop)
    assert first.returncode == 0, first.stderr
    lists, expected = lists_of(lake), oracle(shop, 20)
    assert {row[0] for row in lists} == set(expected)
    for user, best in expected.items():
        own = [row for row in lists if row[0] == user]
        assert [row[2] for row in own] == [item for item, _ in best]
        np.testing.assert_allclose([row[3] for row in own], [score for _, score in best], atol=1e-6)
    assert NEW in {row[2] for row in lists}
    assert {row[4] for row in lists} == {f"sequence-{read_sequence_files(folder).fingerprint[:8]}"}
    assert last_json(recommend(shop))["status"] == "unchanged"
    smaller = recommend(shop, full="true", item_block_rows=7, user_block_rows=5, tasks=5)
    assert last_json(smaller)["status"] == "done", smaller.stderr
    assert lists_of(lake) == lists
    measured = run_job("evaluate_recommendations", f"--lake={lake}", f"--run_date={DAY}", "--metrics_k=20")
    assert measured.returncode == 0, measured.stderr
    assert "sequential" in {row["scorer"] for row in rows_of(lake, "metrics")}


def test_a_changed_model_makes_new_lists_with_the_rules_of_others(shop, tmp_path):
    lake, folder = shop
    model = read_sequence_files(folder)
    other = random_model(model.ids.to_pylist(), model.encoder, dimension=len(model.text_map), seed=5)
    write_sequence_files(other, tmp_path / "other")
    done = recommend((lake, tmp_path / "other"), diversity=0.3, min_score=0, k=3, accept_drift="true")
    assert last_json(done)["status"] == "done", done.stderr
    lists = lists_of(lake)
    assert min(row[3] for row in lists) >= 0
    assert max(row[1] for row in lists) == 3
    best = {user: items[0][0] for user, items in oracle((lake, tmp_path / "other"), 1).items()}
    assert {row[0]: row[2] for row in lists if row[1] == 1}.items() <= best.items()


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        ({"sequence_model": "/nowhere"}, 4, "has no file sequence.json"),
        ({"explain": 3}, 2, "--explain cannot be combined with --scorer=sequential: the reasons of a transformer"),
        ({"interests": 2}, 2, "--interests cannot be combined"),
        ({"approximate": "true"}, 2, "--approximate cannot be combined"),
        ({"half_life_days": 3}, 2, "half_life_days has no effect on the sequential scorer"),
        ({"scorer": "cosine"}, 2, "sequence_model needs scorer=sequential"),
    ],
)
def test_what_the_scorer_cannot_use_is_refused(shop, given, code, message):
    refused = recommend(shop, **given)
    assert (refused.returncode, "Traceback" in refused.stderr) == (code, False)
    assert message in refused.stderr


def test_a_missing_model_and_another_encoder_are_named(shop, tmp_path):
    lake, folder = shop
    model = read_sequence_files(folder)
    none = run_job("recommend_items", f"--lake={lake}", f"--run_date={DAY}", "--scorer=sequential")
    assert (none.returncode, "--scorer=sequential needs --sequence_model" in none.stderr) == (2, True)
    write_sequence_files(random_model(["i01"], "0123456789abcdef", dimension=4), tmp_path / "other")
    refused = recommend((lake, tmp_path / "other"))
    assert refused.returncode == 2
    assert f"reads embeddings of encoder 0123456789abcdef, the lake has those of {model.encoder}" in refused.stderr


@pytest.mark.slow
def test_a_refresh_makes_the_same_lists(shop, walks, tiny_bert, tmp_path):
    lake, folder = shop
    assert recommend(shop, full="true", accept_drift="true").returncode == 0
    data = lake.parent / "data"
    keys = {"dataset": data / "walks.toml", "data": data, "lake": tmp_path / "lake", "model": tiny_bert, "k": 20}
    keys |= {"run_date": DAY, "scorer": "sequential", "sequence_model": folder}
    done = run_job("refresh_lake", *(f"--{key}={value}" for key, value in keys.items()))
    assert done.returncode == 0, done.stderr
    assert lists_of(tmp_path / "lake") == lists_of(lake) != []
