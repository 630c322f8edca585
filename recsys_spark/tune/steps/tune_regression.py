"""Texts to scores: the encoder tuned with one number on top, next to what does without it."""

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
from recsys_spark.tune.kernels.checkpoints import Checkpoints
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
from recsys_spark.tune.kernels.training_loop import train
from recsys_spark.tune.options import TuningOptions
from recsys_spark.tune.steps.distributed import in_processes
from recsys_spark.tune.steps.model_publishing import OutputPaths, describe, publish_model, reported
from recsys_spark.tune.steps.training_data import scored_texts
from recsys_spark.tune.steps.training_progress import Attempt, progress

_BATCH = 32


def tune_regression(
    run: Run, options: TuningOptions, model: ModelSpec, where: OutputPaths, dataset: Dataset | None
) -> tuple[Report, bool]:
    """The report, and whether the model was published: on validation its squared error must be less than that of a
    ridge regression on the frozen encoder (with ``tuning = "head"``, which is that regression: than the biases')."""
    with run.progress.step("read texts and scores"):
        data, versions = scored_texts(run, options, dataset)
    with run.progress.step("baselines"):
        known = baselines(data)
    facts = options.facts() | {"model": model.fingerprint, "data": _digest(data)}
    task = _task(options, model, data)
    frozen, share = task.predict(), task.module.encoder.trainable_share
    plan = replace(options.plan, stop_after=0) if options.method == "head" else options.plan
    name = run_key("fine_tune", facts)
    with run.progress.step("train"), tracked(options.tracker, where.work.parent / "runs", name, facts) as report:
        in_processes(run, options, _task, (model, data), plan, where.work / "checkpoints", name)
        trained = train(task, plan, Checkpoints(where.work / "checkpoints", name), progress(run, plan, report))
    tuned = task.predict()
    if options.method != "head":
        known["frozen_encoder_ridge"] = best_rescale(data, frozen).apply(frozen)
    difference = _gain(data, tuned, known["user_item_bias"] if options.method == "head" else frozen, options.seed)
    stretch = best_rescale(data, tuned)
    figures = _figures(data, stretch.apply(tuned), known) | {
        "stretch": {"slope": stretch.slope, "shift": round(stretch.shift, 4)},
        "gain": {"valid_mse": [round(value, 5) for value in difference]},
        "trainable_share": round(share, 5),
        "best_epoch": trained.epoch,
    }
    card = {"base": model.fingerprint, "figures": figures, "data": versions, "settings": options.facts()}
    better = difference[1] > 0
    made = publish_model(where, partial(_write, task, stretch, options.biases), card, trained.records, better)
    return reported(made), better


def trial_of_regression(run: Run, options: TuningOptions, model: ModelSpec, dataset: Dataset | None) -> Attempt:
    """One training for the search: the pairs are read once; the score is the squared error on validation."""
    data, _ = scored_texts(run, options, dataset)

    def score(asked: TuningOptions, report: Callable[[dict[str, float]], None]) -> float:
        with TemporaryDirectory() as scratch:
            kept = Checkpoints(Path(scratch), "trial")
            return train(_task(asked, model, data), asked.plan, kept, report).best["valid_mse"]

    return Attempt("valid_mse", _digest(data), score)


def _figures(data: RatingPairs, tuned: Values, known: Mapping[str, Values]) -> Report:
    figures: Report = {f"test_{name}": value for name, value in data.errors(tuned, 2).items()}
    figures |= {f"valid_{name}": value for name, value in data.errors(tuned, 1).items()}
    figures["baselines"] = {name: data.errors(values, 2) for name, values in known.items()}
    figures["texts"] = {part: int((data.part == place).sum()) for place, part in enumerate(("train", "valid", "test"))}
    return figures | _verdicts(figures)


def _task(options: TuningOptions, model: ModelSpec, data: RatingPairs) -> RatingTask:
    batch = options.batch or _BATCH
    steps = options.passes * -(-int((data.part == 0).sum()) // (batch * options.accumulate))
    adapting = AdapterConfig(options.method, options.rank, 0.05 if options.dropout is None else options.dropout, steps)
    encoder = TrainableEncoder(model, adapting, chosen_device(options.device), options.seed)
    offset = out_of_fold_biases(data) if options.biases else None
    return RatingTask(data, encoder, loss=options.loss, batch=batch, seed=options.seed, offset=offset)


def _verdicts(figures: Report) -> Report:
    """Whether each baseline is beaten on the test in both errors, and in a sentence by how much or how little."""
    beats, sentences = {}, []
    for name, errors in figures["baselines"].items():
        less = {error: errors[error] - figures[f"test_{error}"] for error in ("mse", "mae")}
        beats[name] = min(less.values()) > 0
        told = " and ".join(
            f"{error.upper()} {abs(by):.4f} {'less' if by > 0 else 'more'}" for error, by in less.items()
        )
        sentences.append(f"{'beats' if beats[name] else 'does not beat'} {name}: {told}")
    return {"beats": beats, "verdict": sentences}


def _gain(data: RatingPairs, tuned: Values, base: Values, seed: int) -> tuple[float, float, float]:
    """By how much the squared error on validation is less, with its interval."""
    valid, known = data.part == 1, data.scores[data.part == 0]
    errors = [(np.clip(p[valid], known.min(), known.max()) - data.scores[valid]) ** 2 for p in (tuned, base)]
    return gain(-errors[0], -errors[1], seed)


def _write(task: RatingTask, stretch: LinearRescale, biases: bool, folder: Path) -> None:
    """The encoder as a model folder; the number on top in a folder of its own, which encoding does not read. With
    ``biases`` it is what they leave of a score."""
    task.module.encoder.save(folder)
    describe(folder, task.module.encoder.spec)
    (folder / "score").mkdir()
    head = task.module.head
    weights = {"weight": head.weight.detach().cpu().numpy(), "bias": head.bias.detach().cpu().numpy()}
    save_file(weights, folder / "score" / "model.safetensors")
    scale = {"mean": task.scale.mean, "deviation": task.scale.deviation, "biases": biases, "stretch": asdict(stretch)}
    (folder / "score" / "config.json").write_text(json.dumps(scale), encoding="utf-8")


def _digest(data: RatingPairs) -> str:
    return run_key("pairs", {"texts": data.texts, "scores": data.scores.tolist(), "part": data.part.tolist()})
