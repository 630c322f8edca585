"""Regression tuning on scored texts: the encoder with a linear head, compared with baselines."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from safetensors.numpy import save_file

from recsys_spark.encode.kernels.model_folder import ModelSpec
from recsys_spark.publish.steps.publishing import Report, run_key
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.sources.dataset_file import Dataset
from recsys_spark.training.kernels.checkpoints import Checkpoints
from recsys_spark.training.kernels.training_loop import train
from recsys_spark.tune.kernels.next_item_eval import gain
from recsys_spark.tune.kernels.rating_baselines import (
    LinearRescale,
    RatingPairs,
    Values,
    baselines,
    best_rescale,
    out_of_fold_biases,
)
from recsys_spark.tune.kernels.rating_task import RatingTask
from recsys_spark.tune.kernels.tracking import tracked
from recsys_spark.tune.kernels.trainable_encoder import AdapterConfig, TrainableEncoder, chosen_device
from recsys_spark.tune.options import TuningOptions
from recsys_spark.tune.steps.distributed import train_in_processes
from recsys_spark.tune.steps.model_publishing import OutputPaths, describe, model_report, publish_model
from recsys_spark.tune.steps.training_data import read_scored_texts
from recsys_spark.tune.steps.training_progress import TrialObjective, progress

_BATCH = 32


def tune_regression(
    run: Run, options: TuningOptions, model: ModelSpec, paths: OutputPaths, dataset: Dataset | None
) -> tuple[Report, bool]:
    """The report, and whether the model was published: on validation its squared error must be less than that of a
    ridge regression on the frozen encoder. With ``tuning = "head"``, which is that regression, it must be less than
    that of the biases."""
    with run.progress.step("read texts and scores"):
        data, versions = read_scored_texts(run, options, dataset)
    with run.progress.step("baselines"):
        baseline_scores = baselines(data)
    provenance = options.settings() | {"model": model.fingerprint, "data": _digest(data)}
    task = _build_task(options, model, data)
    frozen, share = task.predict(), task.module.encoder.trainable_share
    plan = replace(options.plan, stop_after=0) if options.method == "head" else options.plan
    run_id = run_key("fine_tune", provenance)
    trackers = tracked(options.tracker, paths.work.parent / "runs", run_id, provenance)
    with run.progress.step("train"), trackers as tracker:
        checkpoints = Checkpoints(paths.work / "checkpoints", run_id)
        train_in_processes(run, options, _build_task, (model, data), plan, checkpoints)
        trained = train(task, plan, checkpoints, progress(run, plan, tracker))
    tuned = task.predict()
    if options.method != "head":
        baseline_scores["frozen_encoder_ridge"] = best_rescale(data, frozen).apply(frozen)
    reference = baseline_scores["user_item_bias"] if options.method == "head" else frozen
    mse_gain = _mse_gain(data, tuned, reference, options.seed)
    rescale = best_rescale(data, tuned)
    figures = _figures(data, rescale.apply(tuned), baseline_scores) | {
        "stretch": {"slope": rescale.slope, "shift": round(rescale.shift, 4)},
        "gain": {"valid_mse": [round(value, 5) for value in mse_gain]},
        "trainable_share": round(share, 5),
        "best_epoch": trained.epoch,
    }
    card = {"base": model.fingerprint, "figures": figures, "data": versions, "settings": options.settings()}
    better = mse_gain[1] > 0
    write = partial(_write, task, rescale, options.biases)
    return model_report(publish_model(paths, write, card, trained.records, better)), better


def regression_objective(run: Run, options: TuningOptions, model: ModelSpec, dataset: Dataset | None) -> TrialObjective:
    """The objective of a hyperparameter search: the squared error on validation. The pairs are read once."""
    data, _ = read_scored_texts(run, options, dataset)

    def score(trial_options: TuningOptions, report: Callable[[dict[str, float]], None]) -> float:
        with TemporaryDirectory() as scratch:
            task, checkpoints = _build_task(trial_options, model, data), Checkpoints(Path(scratch), "trial")
            return train(task, trial_options.plan, checkpoints, report).best["valid_mse"]

    return TrialObjective("valid_mse", _digest(data), score)


def _figures(data: RatingPairs, tuned: Values, baseline_scores: Mapping[str, Values]) -> Report:
    """Errors of the tuned model and the baselines."""
    figures: Report = {f"test_{name}": value for name, value in data.errors(tuned, 2).items()}
    figures |= {f"valid_{name}": value for name, value in data.errors(tuned, 1).items()}
    figures["baselines"] = {name: data.errors(values, 2) for name, values in baseline_scores.items()}
    figures["texts"] = {part: int((data.part == n).sum()) for n, part in enumerate(("train", "valid", "test"))}
    return figures | _comparison(figures)


def _build_task(options: TuningOptions, model: ModelSpec, data: RatingPairs) -> RatingTask:
    batch = options.batch or _BATCH
    steps = options.passes * -(-int((data.part == 0).sum()) // (batch * options.accumulate))
    dropout = 0.05 if options.dropout is None else options.dropout
    adapters = AdapterConfig(options.method, options.rank, dropout, steps)
    encoder = TrainableEncoder(model, adapters, chosen_device(options.device), options.seed)
    offset = out_of_fold_biases(data) if options.biases else None
    return RatingTask(data, encoder, loss=options.loss, batch=batch, seed=options.seed, offset=offset)


def _comparison(figures: Report) -> Report:
    """Per baseline: whether the model beats it in both test errors (``beats``), and a sentence with the differences."""
    beats, sentences = {}, []
    for name, errors in figures["baselines"].items():
        reductions = {error: errors[error] - figures[f"test_{error}"] for error in ("mse", "mae")}
        beats[name] = min(reductions.values()) > 0
        differences = " and ".join(
            f"{error.upper()} {abs(reduction):.4f} {'less' if reduction > 0 else 'more'}"
            for error, reduction in reductions.items()
        )
        sentences.append(f"{'beats' if beats[name] else 'does not beat'} {name}: {differences}")
    return {"beats": beats, "verdict": sentences}


def _mse_gain(data: RatingPairs, tuned: Values, base: Values, seed: int) -> tuple[float, float, float]:
    """The reduction of the squared error on validation from ``base`` to ``tuned``, with its interval (low, high)."""
    valid, train_scores = data.part == 1, data.scores[data.part == 0]
    errors = [
        (np.clip(predicted[valid], train_scores.min(), train_scores.max()) - data.scores[valid]) ** 2
        for predicted in (tuned, base)
    ]
    return gain(-errors[0], -errors[1], seed)


def _write(task: RatingTask, rescale: LinearRescale, biases: bool, folder: Path) -> None:
    """Write the encoder as a model folder, and the score head to its subfolder ``score``, which encoding ignores. With
    ``biases`` the head predicts the residual of a score after user and item biases."""
    task.module.encoder.save(folder)
    describe(folder, task.module.encoder.spec)
    (folder / "score").mkdir()
    head = task.module.head
    weights = {"weight": head.weight.detach().cpu().numpy(), "bias": head.bias.detach().cpu().numpy()}
    save_file(weights, folder / "score" / "model.safetensors")
    config = {"mean": task.scale.mean, "deviation": task.scale.deviation, "biases": biases, "stretch": asdict(rescale)}
    (folder / "score" / "config.json").write_text(json.dumps(config), encoding="utf-8")


def _digest(data: RatingPairs) -> str:
    return run_key("pairs", {"texts": data.texts, "scores": data.scores.tolist(), "part": data.part.tolist()})
