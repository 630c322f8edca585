"""A fine-tuned model from the command line: killed and resumed, rejected, used to embed and to refresh."""

import json
from pathlib import Path

import numpy as np
import pytest
from deltalake import DeltaTable

from tests.bench.spark_submit import last_json, submit

KILLED = (-9, 137)


def tuning(walks: Path, model: Path, lake: Path, output: Path, **given: object) -> list[str]:
    settings = {"dataset": walks / "walks.toml", "data": walks, "model": model, "lake": lake, "output": output}
    settings |= {"hidden": 16, "batch": 32, "learning_rate": 1e-2, "epochs": 12, "dropout": 0.1, "checkpoint_steps": 4}
    return ["fine_tune_encoder", *(f"--{key}={value}" for key, value in (settings | given).items())]


def embeddings(lake: Path) -> dict[tuple[str, str], list[float]]:
    rows = DeltaTable(str(lake / "embeddings")).to_pyarrow_table().to_pylist()
    return {(row["text_hash"], row["model"]): row["embedding"] for row in rows}


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_tuned_model_from_its_training_to_the_lists(walks, tiny_bert, tmp_path):
    lake, models = tmp_path / "lake", tmp_path / "models"  # models/ does not exist yet
    whole = submit(*tuning(walks, tiny_bert, lake, models / "whole"))
    assert whole.returncode == 0, whole.stderr
    for point in ("step.7:training", "step.31:training", "publish.before:model", "publish.after:model"):
        killed = submit(*tuning(walks, tiny_bert, lake, models / "again"), RECSYS_FAULTS=f"{point}=kill")
        assert killed.returncode in KILLED, f"{point}: {killed.stderr}"
        assert (models / "again.training").is_dir()
    again = submit(*tuning(walks, tiny_bert, lake, models / "again"))
    assert again.returncode == 0, again.stderr
    assert last_json(again)["model"] == last_json(whole)["model"]  # a digest of all weights
    assert records(models / "again") == records(models / "whole")
    assert sorted(path.name for path in models.iterdir()) == ["again", "whole"]

    rejected = submit(*tuning(walks, tiny_bert, lake, models / "bad", learning_rate=1e-9, epochs=1))
    assert rejected.returncode == 3, rejected.stderr
    assert (models / "bad.rejected" / "training.json").is_file()
    assert not (models / "bad").exists()

    new, old = last_json(whole)["model"], last_json(whole)["base"]
    before = embeddings(lake)
    for name, target in (("whole", lake), ("again", tmp_path / "other")):  # two folders, two processes, two lakes
        keys = {"dataset": walks / "walks.toml", "data": walks, "lake": target, "model": models / name}
        done = submit(
            "refresh_lake",
            *(f"--{key}={value}" for key, value in keys.items()),
            "--run_date=2024-12-31",
            "--scorer=cosine",
        )
        assert done.returncode == 0, done.stderr
    after = embeddings(lake)
    assert {model for _, model in after} == {old, new}
    assert {key: vector for key, vector in after.items() if key[1] == old} == before
    assert embeddings(tmp_path / "other") == {key: vector for key, vector in after.items() if key[1] == new}
    lists = DeltaTable(str(lake / "recommendations")).to_pyarrow_table()
    assert lists.num_rows
    assert all(model.startswith(new) for model in set(lists["model"].to_pylist()))


@pytest.mark.slow
def test_two_processes_started_by_spark_train_as_one(walks, tiny_bert, tmp_path):
    given = {"dropout": 0, "memory": 0, "epochs": 2, "refit": "false"}  # chance differs between processes
    for number in (1, 2):
        done = submit(
            *tuning(walks, tiny_bert, tmp_path / "lake", tmp_path / f"by_{number}", processes=number, **given)
        )
        assert done.returncode in (0, 3), done.stderr
    folders = [next(tmp_path.glob(f"by_{number}*")) for number in (1, 2)]
    one, two = (records(folder) for folder in folders)
    assert len(one) == len(two) > 10
    for expected, record in zip(one, two, strict=True):
        assert record == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert np.isfinite([record["loss"] for record in two if "loss" in record]).all()
