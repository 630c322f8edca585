"""fine_tune_encoder on a small data set with a tiny model: what is published, what is refused, what is reported."""

import json
import shutil
import sys

import numpy as np
import pytest

from recsys_spark.config import load
from recsys_spark.errors import InputError, QualityError, UsageError
from recsys_spark.job import Run
from recsys_spark.kernels.model_folder import read_model
from recsys_spark.lake import Lake
from recsys_spark.progress import Progress
from recsys_spark.steps.fine_tune import fine_tune
from recsys_spark.steps.model_card import places
from recsys_spark.steps.search import SearchOptions, search
from recsys_spark.steps.tuning_options import TuningOptions

DATASET = """
title = "Walks"
[sources.products]
path = "products.csv"
options = { header = true }
[sources.log]
path = "log.csv"
options = { header = true }
[items]
from = "products"
select = { item_id = "sku", title = "name" }
text = ["{title}"]
[events]
from = "log"
select = { user_id = "user", item_id = "sku", event_type = "'rating'", timestamp = "at", value = "stars" }
earliest = 2024-01-01
latest = 2024-12-31
[reviews]
from = "log"
select = { user_id = "user", item_id = "sku", timestamp = "at", text = "words", score = "stars" }
"""


@pytest.fixture(scope="module")
def walks(tmp_path_factory):
    """Users walk along a circle of 40 items; what they write tells the stars they give."""
    folder = tmp_path_factory.mktemp("walks")
    (folder / "walks.toml").write_text(DATASET, encoding="utf-8")
    rng = np.random.default_rng(0)
    names = [f"{chr(97 + item % 26)}{chr(97 + item * 7 % 26)} {chr(97 + item // 4)}" for item in range(40)]
    (folder / "products.csv").write_text(
        "sku,name\n" + "".join(f"i{item:02d},{name}\n" for item, name in enumerate(names)), encoding="utf-8"
    )
    lines = ["user,sku,at,stars,words"]
    for user in range(60):
        at = rng.integers(40)
        for step in range(rng.integers(4, 8)):
            good = rng.random() < 0.5
            words = "good fine" if good else "bad sad"
            stars = (5 if good else 2) - (rng.random() < 0.2)
            lines.append(
                f"u{user:02d},i{(at + 7 * step) % 40:02d},2024-01-{step + 1:02d} 0{user % 9}:00:00,{stars},{words}"
            )
    (folder / "log.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def options_of(walks, tiny_bert, tmp_path, kind=TuningOptions, **given):
    settings = {"dataset": str(walks / "walks.toml"), "data": str(walks), "model": str(tiny_bert)}
    settings |= {"lake": str(tmp_path / "lake"), "output": str(tmp_path / "mine"), "hidden": 16, "batch": 32}
    settings |= {"learning_rate": 1e-2, "epochs": 6, "dropout": 0.1} | given
    return load(kind, "fine_tune_encoder", [f"--{key}={value}" for key, value in settings.items()], None)


def run_of(options):
    return Run("fine_tune_encoder", Lake(options.lake), Progress())


def test_regression_reports_its_errors_next_to_the_baselines(spark, walks, tiny_bert, tmp_path):
    options = options_of(walks, tiny_bert, tmp_path, objective="regression", tuning="head")
    report = fine_tune(run_of(options), options)
    assert set(report["baselines"]) == {"global_mean", "user_item_bias", "tfidf_ridge"}
    assert report["test_mse"] < 0.5 * report["baselines"]["global_mean"]["mse"]
    assert report["beats"]["global_mean"]
    assert report["beats"]["user_item_bias"]
    folder = tmp_path / "mine"
    assert read_model(str(folder)).fingerprint == report["model"]
    card = json.loads((folder / "training.json").read_text())
    assert card["status"] == "published"
    assert card["figures"]["test_mse"] == report["test_mse"]
    assert (folder / "score" / "model.safetensors").is_file()
    assert not (tmp_path / "mine.training").exists()


def test_a_projector_is_published_and_embeds_as_it_was_judged(spark, walks, tiny_bert, tmp_path):
    options = options_of(walks, tiny_bert, tmp_path, epochs=12, refit="false")
    run = run_of(options)
    report = fine_tune(run, options)
    assert report["lift"]["validation_ndcg@10"] > 0.2
    assert report["gain"]["valid_ndcg@10"][1] > 0
    assert report["model"] != report["base"]
    lines = [json.loads(line) for line in (tmp_path / "mine" / "metrics.jsonl").read_text().splitlines()]
    assert {"step", "epoch", "loss", "gradient"} <= set(lines[1])
    assert (tmp_path / "mine" / "loss.png").read_bytes().startswith(b"\x89PNG")
    encoded = options_of(walks, tmp_path / "mine", tmp_path)
    from recsys_spark.steps.embed import embed
    from recsys_spark.steps.training_pairs import histories

    assert embed(run, encoded)["texts_encoded"] == 40
    before, _, _ = histories(run, encoded, report["base"])
    after, known, _ = histories(run, encoded, report["model"])  # the old vectors stay beside the new ones
    assert not np.allclose(before.vectors, after.vectors)
    from recsys_spark.kernels.next_item import VALID, judge

    used = report["tuned"]["used"]
    again = judge(after.vectors, known, used["decay"], VALID, used["whitening"])
    assert again.figures == report["tuned"]["validation"]


def test_what_is_no_better_is_kept_as_rejected(spark, walks, tiny_bert, tmp_path):
    options = options_of(walks, tiny_bert, tmp_path, learning_rate=1e-9, epochs=1)
    with pytest.raises(QualityError, match="not better than its base") as failed:
        fine_tune(run_of(options), options)
    assert not (tmp_path / "mine").exists()
    card = json.loads((tmp_path / "mine.rejected" / "training.json").read_text())
    assert card["status"] == "rejected"
    assert failed.value.report["output"] == str(tmp_path / "mine.rejected")
    assert failed.value.report["validation_ndcg@10"] == card["figures"]["validation_ndcg@10"]
    with pytest.raises(UsageError, match="exists already"):
        fine_tune(run_of(options), options)


def test_lora_trains_on_histories_through_the_job(spark, walks, tiny_bert, tmp_path):
    options = options_of(walks, tiny_bert, tmp_path, tuning="lora", epochs=1, rank=2, negatives=8)
    try:
        report = fine_tune(run_of(options), options)
    except QualityError as verdict:
        report = verdict.report
    assert 0 < report["trainable_share"] < 0.1
    assert read_model(report["output"]).fingerprint == report["model"]


@pytest.mark.parametrize(
    ("given", "fault", "message"),
    [
        ({"min_pairs": 10_000, "objective": "regression"}, InputError, "fewer than min_pairs"),
        ({"min_pairs": 10_000}, InputError, "too little to learn from"),
        ({"tuning": "head"}, UsageError, "has no objective 'contrastive'"),
        ({"tuning": "projector", "objective": "regression"}, UsageError, "has no objective 'regression'"),
        ({"model": "/nowhere"}, InputError, "config.json"),
        ({"precision": "int8"}, UsageError, "training is in fp32"),
        ({"output": "/nowhere/mine"}, InputError, "does not exist"),
    ],
)
def test_what_cannot_be_trained_is_refused_before(spark, walks, tiny_bert, tmp_path, given, fault, message):
    options = options_of(walks, tiny_bert, tmp_path, **given)
    with pytest.raises(fault, match=message):
        fine_tune(run_of(options), options)
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("column", "value", "message"), [("stars", "4", "all .* scores are 4"), ("words", "", "min_pairs")]
)
def test_scores_that_are_all_the_same_and_empty_texts_are_refused(
    spark, walks, tiny_bert, tmp_path, column, value, message
):
    folder = tmp_path / "data"
    shutil.copytree(walks, folder)
    header, *lines = (folder / "log.csv").read_text().splitlines()
    place = header.split(",").index(column)
    rows = [line.split(",") for line in lines]
    changed = [",".join([*row[:place], value, *row[place + 1 :]]) for row in rows]
    (folder / "log.csv").write_text("\n".join([header, *changed]) + "\n")
    options = options_of(folder, tiny_bert, tmp_path, objective="regression")
    with pytest.raises(InputError, match=message):
        fine_tune(run_of(options), options)


def test_a_model_with_code_of_its_own_is_refused(spark, walks, tiny_bert, tmp_path):
    folder = tmp_path / "remote"
    shutil.copytree(tiny_bert, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "x.Y"}}))
    options = options_of(walks, folder, tmp_path)
    with pytest.raises(UsageError, match="auto_map"):
        fine_tune(run_of(options), options)


def test_a_tracker_that_is_not_installed_is_named(spark, walks, tiny_bert, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "recsys_missing", None)
    monkeypatch.setattr("recsys_spark.kernels.tracking.PACKAGES", {"wandb": "recsys_not_there"})
    options = options_of(walks, tiny_bert, tmp_path, tracker="wandb")
    with pytest.raises(UsageError, match="extra 'wandb'"):
        fine_tune(run_of(options), options)


def test_an_output_that_exists_is_never_written_over(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(UsageError, match="never written over"):
        places(str(tmp_path / "mine"))


def test_a_search_goes_on_where_it_stopped(spark, walks, tiny_bert, tmp_path):
    first = options_of(walks, tiny_bert, tmp_path, SearchOptions, trials=2, epochs=2)
    report = search(run_of(first), first)
    assert sum(report["trials"].values()) == 2
    assert "--learning_rate=" in report["arguments"]
    more = options_of(walks, tiny_bert, tmp_path, SearchOptions, trials=3, epochs=2)
    again = search(run_of(more), more)
    assert sum(again["trials"].values()) == 3
    assert again["best"] >= report["best"]
