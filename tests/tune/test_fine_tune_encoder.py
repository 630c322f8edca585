"""fine_tune_encoder on a small data set with a tiny model: publishing, refusals and reports."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from recsys_spark.encode.kernels.dense_head import Dense, Unit, write_head
from recsys_spark.encode.kernels.model_folder import read_model
from recsys_spark.errors import InputError, QualityError, UsageError
from recsys_spark.lake.lake import Lake
from recsys_spark.runtime.config import load
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.training.kernels.checkpoints import Checkpoints
from recsys_spark.tune.kernels.next_item_eval import Histories, NextItemResult
from recsys_spark.tune.kernels.tracking import tracked
from recsys_spark.tune.options import TuningOptions
from recsys_spark.tune.steps.distributed import train_in_processes
from recsys_spark.tune.steps.fine_tune_encoder import fine_tune_encoder, trainable_model
from recsys_spark.tune.steps.model_publishing import describe, output_paths, unreported_model
from recsys_spark.tune.steps.search_hyperparameters import SEARCHED, SearchOptions, search_hyperparameters
from recsys_spark.tune.steps.training_progress import TrialObjective
from recsys_spark.tune.steps.tune_contrastive import _figures


def options_of(walks, tiny_bert, tmp_path, kind=TuningOptions, **given):
    settings = {"dataset": str(walks / "walks.toml"), "data": str(walks), "model": str(tiny_bert)}
    settings |= {"lake": str(tmp_path / "lake"), "output": str(tmp_path / "mine"), "hidden": 16, "batch": 32}
    settings |= {"learning_rate": 1e-2, "epochs": 6, "dropout": 0.1} | given
    return load(kind, "fine_tune_encoder", [f"--{key}={value}" for key, value in settings.items()], None)


def run_of(options):
    return Run("fine_tune_encoder", Lake(options.lake), Progress())


def test_regression_reports_its_errors_next_to_the_baselines(spark, walks, tiny_bert, tmp_path):
    options = options_of(walks, tiny_bert, tmp_path, objective="regression", tuning="head")
    report = fine_tune_encoder(run_of(options), options)
    assert set(report["baselines"]) == {"global_mean", "user_item_bias", "tfidf_ridge"}
    assert report["test_mse"] < 0.5 * report["baselines"]["global_mean"]["mse"]
    assert report["beats"]["global_mean"]
    assert report["beats"]["user_item_bias"]
    less = report["baselines"]["global_mean"]["mse"] - report["test_mse"]
    assert any(sentence.startswith(f"beats global_mean: MSE {less:.4f} less and MAE") for sentence in report["verdict"])
    folder = tmp_path / "mine"
    assert read_model(str(folder)).fingerprint == report["model"]
    card = json.loads((folder / "training.json").read_text())
    assert card["status"] == "published"
    assert card["figures"]["test_mse"] == report["test_mse"]
    assert (folder / "score" / "model.safetensors").is_file()
    assert not (tmp_path / "mine.training").exists()


def test_a_published_projector_embeds_the_vectors_it_was_evaluated_with(spark, walks, tiny_bert, tmp_path):
    options = options_of(walks, tiny_bert, tmp_path, epochs=12, refit="false")
    run = run_of(options)
    report = fine_tune_encoder(run, options)
    assert report["lift"]["validation_ndcg@10"] > 0.2
    assert report["gain"]["valid_ndcg@10"][1] > 0
    assert report["model"] != report["base"]
    lines = [json.loads(line) for line in (tmp_path / "mine" / "metrics.jsonl").read_text().splitlines()]
    assert {"step", "epoch", "loss", "gradient"} <= set(lines[1])
    assert (tmp_path / "mine" / "loss.png").read_bytes().startswith(b"\x89PNG")
    encoded = options_of(walks, tmp_path / "mine", tmp_path)
    from recsys_spark.encode.steps.embed_texts import embed_texts
    from recsys_spark.tune.steps.training_data import read_histories

    assert embed_texts(run, encoded)["texts_encoded"] == 40
    before, _, _ = read_histories(run, encoded, report["base"])
    after, events, _ = read_histories(run, encoded, report["model"])  # the old vectors remain besides the new ones
    assert not np.allclose(before.vectors, after.vectors)
    from recsys_spark.tune.kernels.next_item_eval import VALID, evaluate_next_item

    used = report["tuned"]["used"]
    again = evaluate_next_item(after.vectors, events, used["decay"], VALID, used["whitening"])
    assert again.figures == report["tuned"]["validation"]


@pytest.mark.slow
def test_a_model_that_is_not_better_is_named_as_rejected(spark, walks, tiny_bert, tmp_path):
    options = options_of(walks, tiny_bert, tmp_path, learning_rate=1e-9, epochs=1)
    with pytest.raises(QualityError, match="not better than its base") as failed:
        fine_tune_encoder(run_of(options), options)
    assert not (tmp_path / "mine").exists()
    card = json.loads((tmp_path / "mine.rejected" / "training.json").read_text())
    assert card["status"] == "rejected"
    assert failed.value.report["output"] == str(tmp_path / "mine.rejected")
    assert failed.value.report["validation_ndcg@10"] == card["figures"]["validation_ndcg@10"]
    with pytest.raises(UsageError, match="exists; a model is never overwritten"):
        fine_tune_encoder(run_of(options), options)


@pytest.mark.slow
def test_lora_trains_on_histories_through_the_job(spark, walks, tiny_bert, tmp_path):
    options = options_of(walks, tiny_bert, tmp_path, tuning="lora", epochs=1, rank=2, negatives=8)
    try:
        report = fine_tune_encoder(run_of(options), options)
    except QualityError as verdict:
        report = verdict.report
    assert 0 < report["trainable_share"] < 0.1
    assert read_model(report["output"]).fingerprint == report["model"]


@pytest.mark.parametrize(
    ("given", "fault", "message"),
    [
        ({"min_pairs": 10_000, "objective": "regression"}, InputError, "fewer than min_pairs"),
        ({"min_pairs": 10_000}, InputError, "too little to learn from"),
        ({"tuning": "head"}, UsageError, "objective 'contrastive' has no tuning"),
        ({"tuning": "projector", "objective": "regression"}, UsageError, "objective 'regression' has no tuning"),
        ({"model": "/nowhere"}, InputError, "config.json"),
        ({"precision": "int8"}, UsageError, "--precision=fp32"),
        ({"output": "/dev/null/mine"}, InputError, "cannot be created"),
        ({"long_text": "chunk"}, UsageError, "--long_text=truncate"),
        ({"objective": "regression", "split": "user", "valid_share": 0.001}, InputError, "test part has no text"),
    ],
)
def test_options_and_data_that_cannot_be_trained_are_refused(spark, walks, tiny_bert, tmp_path, given, fault, message):
    options = options_of(walks, tiny_bert, tmp_path, **given)
    with pytest.raises(fault, match=message):
        fine_tune_encoder(run_of(options), options)
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("column", "value", "message"), [("stars", "4", "all .* scores are 4"), ("words", "", "min_pairs")]
)
def test_equal_scores_and_empty_texts_are_refused(spark, walks, tiny_bert, tmp_path, column, value, message):
    folder = tmp_path / "data"
    shutil.copytree(walks, folder)
    header, *lines = (folder / "log.csv").read_text().splitlines()
    number = header.split(",").index(column)
    rows = [line.split(",") for line in lines]
    changed = [",".join([*row[:number], value, *row[number + 1 :]]) for row in rows]
    (folder / "log.csv").write_text("\n".join([header, *changed]) + "\n")
    options = options_of(folder, tiny_bert, tmp_path, objective="regression")
    with pytest.raises(InputError, match=message):
        fine_tune_encoder(run_of(options), options)


def test_a_model_with_remote_code_is_refused(spark, walks, tiny_bert, tmp_path):
    folder = tmp_path / "remote"
    shutil.copytree(tiny_bert, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "x.Y"}}))
    options = options_of(walks, folder, tmp_path)
    with pytest.raises(UsageError, match="auto_map"):
        fine_tune_encoder(run_of(options), options)


def test_a_tracker_that_is_not_installed_is_named(spark, walks, tiny_bert, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "recsys_missing", None)
    monkeypatch.setattr("recsys_spark.tune.kernels.tracking.PACKAGES", {"wandb": "recsys_not_there"})
    options = options_of(walks, tiny_bert, tmp_path, tracker="wandb")
    with pytest.raises(UsageError, match="extra 'wandb'"):
        fine_tune_encoder(run_of(options), options)


def test_an_existing_output_is_never_overwritten(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(UsageError, match="never overwritten"):
        unreported_model(output_paths(str(tmp_path / "mine")), {})


def test_a_training_killed_after_renaming_its_model_is_finished_by_the_same_command(
    spark, walks, tiny_bert, tmp_path, monkeypatch
):
    options = options_of(walks, tiny_bert, tmp_path, objective="regression", tuning="head", output=tmp_path / "a/b")
    plain = shutil.rmtree

    def killed(path, *rest, **more):
        if Path(path).name == "b.training":
            raise KeyboardInterrupt
        plain(path, *rest, **more)

    monkeypatch.setattr("recsys_spark.tune.steps.model_publishing.shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        fine_tune_encoder(run_of(options), options)
    monkeypatch.undo()
    assert (tmp_path / "a/b.training").is_dir()
    other = options_of(
        walks, tiny_bert, tmp_path, objective="regression", tuning="head", output=tmp_path / "a/b", seed=1
    )
    with pytest.raises(UsageError, match="never overwritten"):
        fine_tune_encoder(run_of(other), other)
    report = fine_tune_encoder(run_of(options), options)
    assert read_model(report["output"]).fingerprint == report["model"]
    assert report["beats"]["global_mean"]
    assert not (tmp_path / "a/b.training").exists()
    with pytest.raises(UsageError, match="never overwritten"):
        fine_tune_encoder(run_of(options), options)


def test_dense_layers_of_the_base_are_not_lost(spark, walks, tiny_bert, tmp_path):
    folder = tmp_path / "dense"
    shutil.copytree(tiny_bert, folder)
    write_head(folder, [Dense(np.eye(32, dtype=np.float32), np.zeros(32, np.float32)), Unit()])
    options = options_of(walks, folder, tmp_path, tuning="lora")
    with pytest.raises(UsageError, match="dense layers"):
        trainable_model(run_of(options), options)
    options = options_of(walks, folder, tmp_path)
    assert trainable_model(run_of(options), options).folder == str(folder)


def test_a_prompt_that_was_cleared_stays_cleared(tiny_bert, tmp_path):
    folder = tmp_path / "prompted"
    shutil.copytree(tiny_bert, folder)
    (folder / "config_sentence_transformers.json").write_text('{"prompts": {"query": "q: ", "passage": "p: "}}')
    assert read_model(str(folder)).prompt == "p: "
    spec = read_model(str(folder), prompt="", user_prompt="")
    describe(folder, spec)
    assert read_model(str(folder)).fingerprint == spec.fingerprint


def test_a_frozen_metric_of_zero_has_no_lift(monkeypatch):
    def result(rate):
        return NextItemResult(None, 0.75, np.arange(4), np.full(4, rate), np.full(4, rate))

    monkeypatch.setattr(
        "recsys_spark.tune.steps.tune_contrastive.evaluate_next_item", lambda rows, *_: result(float(rows.max()))
    )
    events = Histories(np.arange(4), np.arange(4), np.zeros(4, np.int8))
    task = SimpleNamespace(item_vectors=lambda: np.ones((4, 2), np.float32), trainable_share=1.0)
    trained = SimpleNamespace(epoch=1)
    report = _figures(np.zeros((4, 2), np.float32), task, events, result(0.0), result(1.0), trained)
    assert report["lift"]["test_hit_rate@10"] is None
    json.dumps(report, allow_nan=False)


def test_the_tuning_adapter_is_ia3(walks, tiny_bert, tmp_path):
    assert options_of(walks, tiny_bert, tmp_path, tuning="adapter").method == "ia3"


@pytest.mark.slow
def test_a_search_continues_its_study(spark, walks, tiny_bert, tmp_path):
    first = options_of(walks, tiny_bert, tmp_path, SearchOptions, trials=2, epochs=2)
    report = search_hyperparameters(run_of(first), first)
    assert sum(report["trials"].values()) == 2
    assert "--learning_rate=" in report["arguments"]
    more = options_of(walks, tiny_bert, tmp_path, SearchOptions, trials=3, epochs=2)
    again = search_hyperparameters(run_of(more), more)
    assert sum(again["trials"].values()) == 3
    assert again["best"] >= report["best"]


@pytest.mark.parametrize(
    ("on_executors", "key"), [(False, "spark.driver.resource.gpu.amount=2"), (True, "spark.task.resource.gpu.amount")]
)
def test_gpus_that_spark_does_not_manage_are_refused(walks, tiny_bert, tmp_path, monkeypatch, on_executors, key):
    context = SimpleNamespace(resources={}, getConf=lambda: SimpleNamespace(get=lambda name: None))
    run = SimpleNamespace(spark=SimpleNamespace(sparkContext=context))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)  # device is auto
    options = options_of(walks, tiny_bert, tmp_path, tuning="lora", processes=2, on_executors=on_executors)
    with pytest.raises(UsageError, match=key):
        train_in_processes(run, options, None, (), options.plan, Checkpoints(tmp_path, "a"))


def study_of(folder, goal=0.0):
    """A search objective without training; the options of each trial are appended to the returned list."""
    tried = []

    def score(options, report):
        tried.append(options)
        for epoch in range(5):
            report({"epoch": epoch, "valid_total": goal[len(tried) - 1] if isinstance(goal, list) else goal})
        return goal[len(tried) - 1] if isinstance(goal, list) else goal

    return tried, TrialObjective("valid_total", "the data", score)


def searched(monkeypatch, options, objective):
    monkeypatch.setattr("recsys_spark.tune.steps.search_hyperparameters.read_dataset", lambda run, options: None)
    monkeypatch.setattr("recsys_spark.tune.steps.tune_contrastive.contrastive_objective", lambda *_: objective)
    return search_hyperparameters(run_of(options), options)


def test_a_trial_with_a_nan_loss_and_a_pruned_one_do_not_end_a_search(walks, tiny_bert, tmp_path, monkeypatch):
    options = options_of(walks, tiny_bert, tmp_path, SearchOptions, trials=7)
    tried, objective = study_of(tmp_path, [0.5, 0.5, 0.0, 0.5, 0.5, 0.1, 0.9])

    def score(options, report):
        if len(tried) == 2:
            tried.append(options)
            raise QualityError("the loss is nan")
        return objective.score(options, report)

    report = searched(monkeypatch, options, TrialObjective(objective.goal, objective.data, score))
    assert report["trials"] == {"complete": 5, "fail": 1, "pruned": 1}
    assert report["best"] == 0.9
    assert set(report["settings"]) <= set(SEARCHED)
    assert all(1e-4 <= one.learning_rate <= 1e-2 for one in tried)  # around the default of a projector


def test_a_study_has_one_model_and_one_set_of_fixed_settings(walks, tiny_bert, tmp_path, monkeypatch):
    given = {"kind": SearchOptions, "trials": 1, "output": tmp_path / "deep" / "study"}
    searched(monkeypatch, options_of(walks, tiny_bert, tmp_path, **given), study_of(tmp_path)[1])
    for change, name in (({"epochs": 9}, "epochs"), ({"prompt": "p: "}, "model, prompt")):
        with pytest.raises(UsageError, match=f"other values of {name}"):
            searched(monkeypatch, options_of(walks, tiny_bert, tmp_path, **given | change), study_of(tmp_path)[1])
    again = options_of(walks, tiny_bert, tmp_path, **given | {"learning_rate": 0.1, "trials": 2})
    assert searched(monkeypatch, again, study_of(tmp_path)[1])["trials"] == {"complete": 2}


def test_a_search_without_optuna_names_the_extra_to_install(walks, tiny_bert, tmp_path, monkeypatch):
    monkeypatch.setattr("recsys_spark.tune.steps.search_hyperparameters.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="extra 'train'"):
        searched(monkeypatch, options_of(walks, tiny_bert, tmp_path, SearchOptions), study_of(tmp_path)[1])


RECORDS = [{"step": 1, "epoch": 0, "loss": 0.5}, {"step": 1, "epoch": 0, "valid_ndcg@10": 0.25}]


def test_tensorboard_gets_every_metric(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tracked("tensorboard", tmp_path, "a", {"rank": 8}) as report:
        for record in RECORDS:
            report(record)
    written = EventAccumulator(str(tmp_path / "tensorboard" / "a")).Reload()
    assert [event.value for event in written.Scalars("loss")] == [0.5]
    assert [event.value for event in written.Scalars("valid_ndcg@10")] == [0.25]


def test_mlflow_stores_metrics_in_sqlite(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    with tracked("mlflow", tmp_path / "runs", "a", {"rank": 8}) as report:
        for record in RECORDS:
            report(record)
    assert (tmp_path / "runs" / "mlflow.db").is_file()
    run = mlflow.search_runs(experiment_names=["fine_tune_encoder"]).iloc[0]
    assert (run["metrics.loss"], run["metrics.valid_ndcg_at_10"], run["params.rank"]) == (0.5, 0.25, "8")


def test_wandb_writes_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with tracked("wandb", tmp_path / "runs", "a", {"rank": 8}) as report:
        for record in RECORDS:
            report(record)
    assert list((tmp_path / "runs").rglob("*.wandb"))
