"""Histories to the next item: a projector on the frozen vectors, or adapters inside the encoder."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from recsys_spark.arrays.vectors import Matrix
from recsys_spark.encode.kernels.dense_head import read_head, write_head
from recsys_spark.encode.kernels.model_folder import ModelSpec
from recsys_spark.encode.kernels.modules import transformer_folder
from recsys_spark.encode.steps.embed_texts import embed_texts
from recsys_spark.publish.steps.publishing import Report, run_key
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.sources.dataset_file import Dataset
from recsys_spark.tune.kernels.checkpoints import Checkpoints
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
from recsys_spark.tune.kernels.training_loop import Trained, train
from recsys_spark.tune.options import TuningOptions
from recsys_spark.tune.steps.distributed import in_processes
from recsys_spark.tune.steps.model_publishing import OutputPaths, describe, publish_model, reported
from recsys_spark.tune.steps.training_data import Catalogue, histories
from recsys_spark.tune.steps.training_progress import Attempt, progress

_BATCH = 1024

_WAYS = (None, *SHRINKS)
"""Vectors are judged as they are and whitened, the base and the tuned ones alike."""

Task = ProjectorTask | ContrastiveTask


def tune_contrastive(run: Run, options: TuningOptions, model: ModelSpec, where: OutputPaths) -> tuple[Report, bool]:
    """The report, and whether the model was published: its NDCG on validation must be above that of the frozen
    encoder, each used in the way (whitening, decay) that is best there."""
    with run.progress.step("embed_texts"):
        embed_texts(run, options)
    with run.progress.step("read items and histories"):
        catalogue, known, versions = histories(run, options, model.fingerprint)
    with run.progress.step("judge the frozen encoder"):
        frozen = best_on_validation(catalogue.vectors, known, _WAYS)
    facts = options.facts() | {"model": model.fingerprint, "data": _digest(catalogue, known)}
    name = run_key("fine_tune", facts)
    task = _task(options, model, catalogue, known, FIT)
    with run.progress.step("train"), tracked(options.tracker, where.work.parent / "runs", name, facts) as report:
        in_processes(
            run, options, _task, (model, catalogue, known, FIT), options.plan, where.work / "checkpoints", name
        )
        kept = Checkpoints(where.work / "checkpoints", name)
        trained = train(task, options.plan, kept, progress(run, options.plan, report))
    with run.progress.step("judge the tuned encoder"):
        tuned = best_on_validation(task.projected(), known, _WAYS)
    difference = gain(tuned.ndcg, frozen.ndcg, options.seed)
    better = difference[1] > 0
    if better and options.refit:
        plan = replace(options.plan, stop_after=trained.epoch + 1)
        task = _task(options, model, catalogue, known, VALID)
        with run.progress.step("train again with the validation events"):
            in_processes(run, options, _task, (model, catalogue, known, VALID), plan, where.work / "refit", name)
            kept = Checkpoints(where.work / "refit", name)
            train(task, plan, kept, progress(run, plan, lambda _: None))
    with run.progress.step("test"):
        figures = _figures(catalogue.vectors, task, known, frozen, tuned, trained)
    figures["gain"] = {"valid_ndcg@10": [round(value, 5) for value in difference]}
    return _published(options, where, model, task, trained, figures, versions, better)


def trial_of_contrastive(run: Run, options: TuningOptions, model: ModelSpec, dataset: Dataset | None) -> Attempt:
    """One training for the search: vectors and histories are read once; the score is hit rate + NDCG on validation."""
    embed_texts(run, options)
    catalogue, known, _ = histories(run, options, model.fingerprint)

    def score(asked: TuningOptions, report: Callable[[dict[str, float]], None]) -> float:
        with TemporaryDirectory() as scratch:
            task = _task(asked, model, catalogue, known, FIT)
            return train(task, asked.plan, Checkpoints(Path(scratch), "trial"), report).best["valid_total"]

    return Attempt("valid_total", _digest(catalogue, known), score)


def _published(
    options: TuningOptions,
    where: OutputPaths,
    model: ModelSpec,
    task: Task,
    trained: Trained,
    figures: Report,
    versions: Any,
    better: bool,
) -> tuple[Report, bool]:
    card = {"base": model.fingerprint, "figures": figures, "data": versions, "settings": options.facts()}
    return reported(publish_model(where, partial(_write, task, model), card, trained.records, better)), better


def _task(options: TuningOptions, model: ModelSpec, catalogue: Catalogue, known: Histories, fitted: int) -> Task:
    shared: dict[str, Any] = {"fitted": fitted, "temperature": options.temperature, "decay": options.decay}
    shared |= {"both_sides": options.both_sides, "seed": options.seed}
    if options.method == "projector":
        dropout = 0.3 if options.dropout is None else options.dropout
        shared |= {"shrink": options.shrink, "hidden": options.hidden, "memory": options.memory, "dropout": dropout}
        return ProjectorTask(catalogue.vectors, known, batch=options.batch or _BATCH, **shared)
    return _encoding_task(options, model, catalogue, known, shared)


def _encoding_task(
    options: TuningOptions, model: ModelSpec, catalogue: Catalogue, known: Histories, shared: dict[str, Any]
) -> ContrastiveTask:
    batch = options.batch or 128
    examples = int((known.role <= shared["fitted"]).sum())
    steps = options.passes * max(1, -(-examples // (batch * options.accumulate)))
    adapting = AdapterConfig(options.method, options.rank, 0.05 if options.dropout is None else options.dropout, steps)
    encoder = TrainableEncoder(model, adapting, chosen_device(options.device), options.seed)
    shared |= {"batch": batch, "negatives": options.negatives, "piece": options.piece}
    shared |= {"hard": options.hard_negatives, "margin": options.margin}
    return ContrastiveTask(catalogue.texts, known, encoder, **shared)


def _figures(
    vectors: Matrix, task: Task, known: Histories, frozen: NextItemResult, tuned: NextItemResult, trained: Trained
) -> Report:
    projected = task.projected()
    report: Report = {"trainable_share": round(task.trainable_share, 5), "best_epoch": trained.epoch}
    for name, rows, way in (("frozen", vectors, frozen), ("tuned", projected, tuned)):
        asked = evaluate_next_item(rows, known, way.decay, TEST, way.shrink)
        used = {"whitening": way.shrink, "decay": way.decay}
        report[name] = {"validation": way.figures, "test": asked.figures, "used": used}
    for part in ("validation", "test"):
        for metric, value in report["tuned"][part].items():
            report[f"{part}_{metric}"] = value
            base = report["frozen"][part][metric]  # 0: no share says how much more it is
            report.setdefault("lift", {})[f"{part}_{metric}"] = round(value / base - 1, 4) if base else None
    report["users"] = len(known.owner) and int(known.owner.max()) + 1
    return report


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


def _digest(catalogue: Catalogue, known: Histories) -> str:
    arrays = {"ids": catalogue.ids.to_pylist(), "items": known.items.tolist(), "role": known.role.tolist()}
    return run_key("histories", arrays | {"owner": int(np.bincount(known.owner).max(initial=0))})
