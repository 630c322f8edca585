"""Language modelling of one's own texts, before or instead of a training on scores or histories."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys_spark.encode.kernels.model_folder import ModelSpec
from recsys_spark.encode.steps.embed_texts import embed_texts
from recsys_spark.errors import InputError, UsageError
from recsys_spark.publish.steps.publishing import Report, run_key
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.training.kernels.checkpoints import Checkpoints
from recsys_spark.training.kernels.training_loop import train
from recsys_spark.tune.kernels.language_task import LanguagePlan, LanguageTask, mean_loss
from recsys_spark.tune.kernels.next_item_eval import (
    SHRINKS,
    TEST,
    VALID,
    Histories,
    NextItemResult,
    best_on_validation,
    evaluate_next_item,
    gain,
)
from recsys_spark.tune.kernels.own_texts import OwnTexts
from recsys_spark.tune.kernels.tracking import tracked
from recsys_spark.tune.kernels.trainable_encoder import AdapterConfig, TrainableEncoder, chosen_device
from recsys_spark.tune.options import RATES, TuningOptions
from recsys_spark.tune.steps.model_publishing import OutputPaths, describe, model_report, publish_model, relative_lift
from recsys_spark.tune.steps.own_texts import read_own_texts
from recsys_spark.tune.steps.training_data import Catalogue, read_histories
from recsys_spark.tune.steps.training_progress import progress

_BATCH = 16

_HEAD_EPOCHS = 20

_PARTS = ("train", "validation", "test")

_WHITENINGS = (None, *SHRINKS)

NextItems = tuple[Catalogue, Histories, NextItemResult]

Losses = Mapping[int, tuple[NDArray[np.float64], NDArray[np.int64]]]
"""By part: the summed loss of each text, and its number of predicted tokens."""


def tune_language(run: Run, options: TuningOptions, model: ModelSpec, paths: OutputPaths) -> tuple[Report, bool]:
    """The report, and whether the model was published: its loss on validation must be below that of the frozen encoder
    with a trained head. Next items before and after are reported and decide nothing."""
    with run.progress.step("read texts"):
        own, versions = read_own_texts(run, options)
    next_items = _next_items(run, options, model)
    provenance = options.settings() | {"model": model.fingerprint, "data": own.digest}
    run_id = run_key("fine_tune", provenance)
    task = _build_task(options, model, own)
    with run.progress.step("train a head on the frozen encoder"):
        plan = replace(options.plan, learning_rate=RATES["head"], epochs=_HEAD_EPOCHS)
        train(task.head_task(), plan, Checkpoints(paths.work / "head", run_id), progress(run, plan, lambda _: None))
    before = {part: task.losses(part) for part in (VALID, TEST)}
    trackers = tracked(options.tracker, paths.work.parent / "runs", run_id, provenance)
    with run.progress.step("train"), trackers as tracker:
        checkpoints = Checkpoints(paths.work / "checkpoints", run_id)
        trained = train(task, options.plan, checkpoints, progress(run, options.plan, tracker))
    after = {part: task.losses(part) for part in (VALID, TEST)}
    valid_gain = gain(-_per_text(after[VALID]), -_per_text(before[VALID]), options.seed)
    figures = _losses(own, before, after) | {"gain": {"valid_loss": [round(value, 5) for value in valid_gain]}}
    with run.progress.step("evaluate next items"):
        figures |= {"best_epoch": trained.epoch} | _next_item_figures(task, next_items)
    card = {"base": model.fingerprint, "figures": figures, "data": versions, "settings": options.settings()}
    better = valid_gain[1] > 0
    return model_report(publish_model(paths, partial(_write, task, model), card, trained.records, better)), better


def _build_task(options: TuningOptions, model: ModelSpec, own: OwnTexts) -> LanguageTask:
    dropout = 0.05 if options.dropout is None else options.dropout
    adapters = AdapterConfig(options.method, options.rank, dropout)
    encoder = TrainableEncoder(model, adapters, chosen_device(options.device), options.seed)
    causal = options.objective == "causal_lm"
    if not causal and encoder.tokenizer.mask_token_id is None:
        raise UsageError(
            f"--objective=masked_lm needs a tokenizer with a mask token, and that of {model.folder} has none: use "
            "another --model, or --objective=causal_lm if its tokens see only earlier ones"
        )
    batch = options.batch or _BATCH
    return LanguageTask(own, encoder, LanguagePlan(causal, options.mask_share, options.row_tokens, batch, options.seed))


def _next_items(run: Run, options: TuningOptions, model: ModelSpec) -> NextItems | str:
    """Items and histories with the result of the base model; a sentence if there is nothing to evaluate on."""
    with run.progress.step("embed_texts"):
        embed_texts(run, options)
    with run.progress.step("evaluate the base model"):
        try:
            catalogue, histories, _ = read_histories(run, options, model.fingerprint)
        except InputError as error:
            return f"not evaluated: {error}"
        return catalogue, histories, best_on_validation(catalogue.vectors, histories, _WHITENINGS)


def _next_item_figures(task: LanguageTask, next_items: NextItems | str) -> Report:
    """Metrics of profiles by whitened cosine with the vectors before and after, each with the whitening and decay that
    are best on validation."""
    if isinstance(next_items, str):
        return {"next_items": next_items}
    catalogue, histories, base = next_items
    vectors = task.vectors(catalogue.texts)
    tuned = best_on_validation(vectors, histories, _WHITENINGS)
    report: Report = {}
    for name, rows, valid in (("frozen", catalogue.vectors, base), ("tuned", vectors, tuned)):
        test = evaluate_next_item(rows, histories, valid.decay, TEST, valid.shrink)
        used = {"whitening": valid.shrink, "decay": valid.decay}
        report[name] = {"validation": valid.figures, "test": test.figures, "used": used}
    return {"next_items": report | relative_lift(report["tuned"], report["frozen"])}


def _losses(own: OwnTexts, before: Losses, after: Losses) -> Report:
    """Mean loss per predicted token in nats, before and after, and its relative change."""
    figures: Report = {"texts": {name: int((own.part == part).sum()) for part, name in enumerate(_PARTS)}}
    for part in (VALID, TEST):
        name, frozen, tuned = _PARTS[part], mean_loss(*before[part]), mean_loss(*after[part])
        figures |= {f"{name}_loss": round(tuned, 4), f"{name}_loss_frozen": round(frozen, 4)}
        figures[f"{name}_loss_change"] = round(tuned / frozen - 1, 4) if frozen else 0.0
    return figures


def _per_text(losses: tuple[NDArray[np.float64], NDArray[np.int64]]) -> NDArray[np.float64]:
    return losses[0] / np.maximum(losses[1], 1)


def _write(task: LanguageTask, model: ModelSpec, folder: Path) -> None:
    task.module.encoder.save(folder)
    describe(folder, model)
