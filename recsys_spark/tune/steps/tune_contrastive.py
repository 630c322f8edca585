"""Contrastive tuning on histories: a projector on frozen vectors, or adapters inside the encoder."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from recsys_spark.arrays.vectors import Matrix
from recsys_spark.encode.kernels.dense_head import read_head, write_head
from recsys_spark.encode.kernels.model_folder import ModelSpec
from recsys_spark.encode.kernels.modules import transformer_folder
from recsys_spark.encode.steps.embed_texts import embed_texts
from recsys_spark.publish.steps.publishing import Report, run_key
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.sources.dataset_file import Dataset
from recsys_spark.training.kernels.checkpoints import Checkpoints
from recsys_spark.training.kernels.training_loop import Trained, train
from recsys_spark.tune.kernels.contrastive_task import ContrastiveTask
from recsys_spark.tune.kernels.next_item_eval import (
    FIT,
    SHRINKS,
    TEST,
    VALID,
    Histories,
    NextItemResult,
    best_on_validation,
    evaluate_next_item,
    gain,
)
from recsys_spark.tune.kernels.projector_task import ProjectorTask
from recsys_spark.tune.kernels.tracking import tracked
from recsys_spark.tune.kernels.trainable_encoder import AdapterConfig, TrainableEncoder, chosen_device, copy_base
from recsys_spark.tune.options import TuningOptions
from recsys_spark.tune.steps.distributed import train_in_processes
from recsys_spark.tune.steps.model_publishing import OutputPaths, describe, model_report, publish_model, relative_lift
from recsys_spark.tune.steps.training_data import Catalogue, data_digest, read_histories
from recsys_spark.tune.steps.training_progress import TrialObjective, progress

_PROJECTOR_BATCH = 1024
_ADAPTER_BATCH = 128

_WHITENINGS = (None, *SHRINKS)
"""Vectors are evaluated without and with whitening, those of the base and the tuned ones alike."""

Task = ProjectorTask | ContrastiveTask


def tune_contrastive(run: Run, options: TuningOptions, model: ModelSpec, paths: OutputPaths) -> tuple[Report, bool]:
    """The report, and whether the model was published: its NDCG on validation must be above that of the frozen
    encoder, each with the whitening and decay that are best for it there."""
    with run.progress.step("embed_texts"):
        embed_texts(run, options)
    with run.progress.step("read items and histories"):
        catalogue, histories, versions = read_histories(run, options, model.fingerprint)
    with run.progress.step("evaluate the frozen encoder"):
        frozen = best_on_validation(catalogue.vectors, histories, _WHITENINGS)
    provenance = options.settings() | {"model": model.fingerprint, "data": data_digest(catalogue, histories)}
    run_id = run_key("fine_tune", provenance)
    arguments, checkpoints = (model, catalogue, histories, FIT), Checkpoints(paths.work / "checkpoints", run_id)
    task = _build_task(options, *arguments)
    trackers = tracked(options.tracker, paths.work.parent / "runs", run_id, provenance)
    with run.progress.step("train"), trackers as tracker:
        train_in_processes(run, options, _build_task, arguments, options.plan, checkpoints)
        trained = train(task, options.plan, checkpoints, progress(run, options.plan, tracker))
    with run.progress.step("evaluate the tuned encoder"):
        tuned = best_on_validation(task.item_vectors(), histories, _WHITENINGS)
    ndcg_gain = gain(tuned.ndcg, frozen.ndcg, options.seed)
    better = ndcg_gain[1] > 0
    if better and options.refit:
        arguments, checkpoints = (model, catalogue, histories, VALID), Checkpoints(paths.work / "refit", run_id)
        task, plan = _build_task(options, *arguments), replace(options.plan, stop_after=trained.epoch + 1)
        with run.progress.step("train again with the validation events"):
            train_in_processes(run, options, _build_task, arguments, plan, checkpoints)
            train(task, plan, checkpoints, progress(run, plan, lambda _: None))
    with run.progress.step("test"):
        figures = _figures(catalogue.vectors, task, histories, frozen, tuned, trained)
    figures["gain"] = {"valid_ndcg@10": [round(value, 5) for value in ndcg_gain]}
    card = {"base": model.fingerprint, "figures": figures, "data": versions, "settings": options.settings()}
    return model_report(publish_model(paths, partial(_write, task, model), card, trained.records, better)), better


def contrastive_objective(
    run: Run, options: TuningOptions, model: ModelSpec, dataset: Dataset | None
) -> TrialObjective:
    """The objective of a hyperparameter search: hit rate + NDCG on validation. Vectors and histories are read once."""
    embed_texts(run, options)
    catalogue, histories, _ = read_histories(run, options, model.fingerprint)

    def score(trial_options: TuningOptions, report: Callable[[dict[str, float]], None]) -> float:
        with TemporaryDirectory() as scratch:
            task = _build_task(trial_options, model, catalogue, histories, FIT)
            return train(task, trial_options.plan, Checkpoints(Path(scratch), "trial"), report).best["valid_total"]

    return TrialObjective("valid_total", data_digest(catalogue, histories), score)


def _build_task(
    options: TuningOptions, model: ModelSpec, catalogue: Catalogue, histories: Histories, fitted: int
) -> Task:
    shared: dict[str, Any] = {"fitted": fitted, "temperature": options.temperature, "decay": options.decay}
    shared |= {"both_sides": options.both_sides, "seed": options.seed}
    if options.method == "projector":
        dropout = 0.3 if options.dropout is None else options.dropout
        shared |= {"shrink": options.shrink, "hidden": options.hidden, "memory": options.memory, "dropout": dropout}
        return ProjectorTask(catalogue.vectors, histories, batch=options.batch or _PROJECTOR_BATCH, **shared)
    return _adapter_task(options, model, catalogue, histories, shared)


def _adapter_task(
    options: TuningOptions, model: ModelSpec, catalogue: Catalogue, histories: Histories, shared: dict[str, Any]
) -> ContrastiveTask:
    batch = options.batch or _ADAPTER_BATCH
    examples = int((histories.role <= shared["fitted"]).sum())
    steps = options.passes * max(1, -(-examples // (batch * options.accumulate)))
    dropout = 0.05 if options.dropout is None else options.dropout
    adapters = AdapterConfig(options.method, options.rank, dropout, steps)
    encoder = TrainableEncoder(model, adapters, chosen_device(options.device), options.seed)
    shared |= {"batch": batch, "negatives": options.negatives, "piece": options.piece}
    shared |= {"hard": options.hard_negatives, "margin": options.margin}
    return ContrastiveTask(catalogue.texts, histories, encoder, **shared)


def _figures(
    vectors: Matrix, task: Task, histories: Histories, frozen: NextItemResult, tuned: NextItemResult, trained: Trained
) -> Report:
    """Metrics of the frozen and the tuned vectors on validation and test, and their relative lift."""
    report: Report = {"trainable_share": round(task.trainable_share, 5), "best_epoch": trained.epoch}
    for name, rows, valid in (("frozen", vectors, frozen), ("tuned", task.item_vectors(), tuned)):
        test = evaluate_next_item(rows, histories, valid.decay, TEST, valid.shrink)
        used = {"whitening": valid.shrink, "decay": valid.decay}
        report[name] = {"validation": valid.figures, "test": test.figures, "used": used}
    report["users"] = len(histories.owner) and int(histories.owner.max()) + 1
    return report | relative_lift(report["tuned"], report["frozen"])


def _write(task: Task, model: ModelSpec, folder: Path) -> None:
    base = Path(model.folder)
    if isinstance(task, ContrastiveTask):
        task.encoder.save(folder)
        describe(folder, model)
        return
    folder.mkdir(parents=True)
    for weights in sorted(transformer_folder(base).glob("*.safetensors*")):
        shutil.copyfile(weights, folder / weights.name)
    copy_base(base, folder)
    describe(folder, model)
    write_head(folder, [*read_head(base), *task.layers()])
