"""fine_tune_encoder --objective=sequence on a small data set: folder, guard, refusals, a killed training."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from recsys_spark.errors import QualityError, UsageError
from recsys_spark.sequence.kernels.model_files import read_sequence_files
from recsys_spark.tune.steps.fine_tune_encoder import fine_tune_encoder
from recsys_spark.tune.steps.search_hyperparameters import SearchOptions, search_hyperparameters
from tests.bench.jobs_here import run_job
from tests.bench.spark_submit import last_json
from tests.tune.test_fine_tune_encoder import options_of, run_of

SMALL = {"objective": "sequence", "width": 16, "layers": 1, "heads": 2, "length": 8, "learning_rate": 2e-2}


def trained(walks: Path, model: Path, lake: Path, output: Path, **given):
    settings = {"dataset": walks / "walks.toml", "data": walks, "model": model, "lake": lake, "output": output}
    settings |= SMALL | {"batch": 32, "epochs": 12, "dropout": 0.1} | given
    return run_job("fine_tune_encoder", *(f"--{key}={value}" for key, value in settings.items()))


def test_a_sequence_encoder_is_published_and_a_bad_one_is_rejected(spark, walks, tiny_bert, tmp_path):
    lake, folder = tmp_path / "lake", tmp_path / "mine"
    done = trained(walks, tiny_bert, lake, folder)
    assert done.returncode == 0, done.stderr
    report, model = last_json(done), read_sequence_files(folder)
    card = json.loads((folder / "training.json").read_text())
    assert report["model"] == card["fingerprint"] == model.fingerprint
    assert (model.encoder, card["status"]) == (report["base"], "published")
    assert model.ids.to_pylist() == sorted(f"i{item:02d}" for item in range(40))
    assert report["gain"]["valid_ndcg@10"][1] > 0
    assert report["test_ndcg@10"] > report["frozen"]["test"]["ndcg@10"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {"valid_ndcg@10", "valid_total"} <= set(lines[0])
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "mine.training").exists()
    assert not [path.name for path in folder.iterdir() if path.suffix in (".pt", ".bin", ".pkl")]
    listed = run_job(
        "recommend_items", f"--lake={lake}", "--run_date=2024-03-01", "--scorer=sequential",
        f"--sequence_model={folder}", "--k=3",
    )  # fmt: skip
    assert last_json(listed)["users"] == 60, listed.stderr
    worse = trained(walks, tiny_bert, lake, tmp_path / "worse", learning_rate=1e-9, epochs=1)
    assert worse.returncode == 3
    assert json.loads((tmp_path / "worse.rejected" / "training.json").read_text())["status"] == "rejected"
    assert "not better than its base" in worse.stderr


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_weights(spark, walks, tiny_bert, tmp_path, monkeypatch):
    given = SMALL | {"checkpoint_steps": 3, "epochs": 3, "batch": 8}

    def train(name: str) -> Path:
        options = options_of(walks, tiny_bert, tmp_path, output=tmp_path / name, **given)
        try:
            return Path(fine_tune_encoder(run_of(options), options)["output"])
        except QualityError as verdict:
            return Path(verdict.report["output"])

    def killed(point, *_):
        if point == "step.11":
            raise KeyboardInterrupt

    whole = train("whole")
    with monkeypatch.context() as patched:
        patched.setattr("recsys_spark.tune.steps.training_progress.failpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            train("killed")
    assert list((tmp_path / "killed.training" / "checkpoints").glob("[0-9]*"))
    resumed = train("killed")
    first, second = (load_file(folder / "sequence.safetensors") for folder in (whole, resumed))
    for name, values in first.items():
        np.testing.assert_array_equal(second[name], values)
    assert read_sequence_files(whole).fingerprint == read_sequence_files(resumed).fingerprint


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tuning": "lora"}, "--tuning=lora does not apply to --objective=sequence"),
        ({"processes": 2}, "trains in one process"),
        ({"heads": 3}, "--heads=3 does not divide --width=16"),
    ],
)
def test_options_that_a_sequence_encoder_cannot_use_are_refused(walks, tiny_bert, tmp_path, given, message):
    options = options_of(walks, tiny_bert, tmp_path, **SMALL | given)
    with pytest.raises(UsageError, match=message):
        fine_tune_encoder(run_of(options), options)


def test_a_search_has_no_sequence_objective(walks, tiny_bert, tmp_path):
    options = options_of(walks, tiny_bert, tmp_path, SearchOptions, objective="sequence")
    with pytest.raises(UsageError, match="has no --objective=sequence"):
        search_hyperparameters(run_of(options), options)


def test_other_trainings_keep_their_checkpoints(walks, tiny_bert, tmp_path):
    """Keys of the sequence encoder are no settings of a training that does not use them."""
    assert "width" not in options_of(walks, tiny_bert, tmp_path).settings()
    assert options_of(walks, tiny_bert, tmp_path, **SMALL).settings()["width"] == 16
