"""Training of a sequence encoder on histories: a transformer over the vectors of the frozen encoder."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from recsys_spark.arrays.vectors import Matrix
from recsys_spark.encode.kernels.model_folder import ModelSpec
from recsys_spark.encode.steps.embed_texts import embed_texts
from recsys_spark.evaluate.kernels.labelled_events import LabelledEvents
from recsys_spark.evaluate.kernels.sequence_scores import SequenceScores, validation_measure
from recsys_spark.items.kernels.whitening import Moments, Whitening, whitening
from recsys_spark.publish.steps.publishing import Report, run_key
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.sequence.kernels.model_files import SequenceFiles, read_sequence_files, write_sequence_files
from recsys_spark.sequence.kernels.sequence_task import BATCH, SequenceTask
from recsys_spark.sequence.user_states import TIE_SEED
from recsys_spark.training.kernels.checkpoints import Checkpoints
from recsys_spark.training.kernels.training_loop import Trained, train
from recsys_spark.tune.kernels.next_item_eval import (
    FIT,
    SHRINKS,
    TEST,
    VALID,
    Histories,
    NextItemResult,
    best_on_validation,
    evaluate_next_item,
    evaluate_scorer,
    gain,
)
from recsys_spark.tune.kernels.tracking import tracked
from recsys_spark.tune.kernels.trainable_encoder import chosen_device
from recsys_spark.tune.options import TuningOptions
from recsys_spark.tune.steps.model_publishing import OutputPaths, model_report, publish_model, relative_lift
from recsys_spark.tune.steps.training_data import Catalogue, data_digest, read_histories
from recsys_spark.tune.steps.training_progress import progress


def tune_sequence(run: Run, options: TuningOptions, model: ModelSpec, paths: OutputPaths) -> tuple[Report, bool]:
    """The report, and whether the model was published: its NDCG on validation must be above that of profiles by the
    frozen encoder, with the whitening and decay that are best there."""
    with run.progress.step("embed_texts"):
        embed_texts(run, options)
    with run.progress.step("read items and histories"):
        catalogue, histories, versions = read_histories(run, options, model.fingerprint, TIE_SEED)
        whitener = whitening(Moments.of(catalogue.vectors), options.shrink or 0.0)
    with run.progress.step("evaluate the frozen encoder"):
        frozen = best_on_validation(catalogue.vectors, histories, (None, *SHRINKS))
    provenance = options.settings() | {"model": model.fingerprint, "data": data_digest(catalogue, histories)}
    run_id = run_key("fine_tune", provenance)
    task = _build_task(options, whitener.apply(catalogue.vectors), histories, FIT)
    trackers = tracked(options.tracker, paths.work.parent / "runs", run_id, provenance)
    with run.progress.step("train"), trackers as tracker:
        checkpoints = Checkpoints(paths.work / "checkpoints", run_id)
        trained = train(task, options.plan, checkpoints, progress(run, options.plan, tracker))
    with run.progress.step("evaluate the sequence encoder"):
        tuned = _evaluated(task, histories, VALID)
    ndcg_gain = gain(tuned.ndcg, frozen.ndcg, options.seed)
    better = ndcg_gain[1] > 0
    if better and options.refit:
        task, plan = _build_task(options, whitener.apply(catalogue.vectors), histories, VALID), options.plan
        plan, checkpoints = replace(plan, stop_after=trained.epoch + 1), Checkpoints(paths.work / "refit", run_id)
        with run.progress.step("train again with the validation events"):
            train(task, plan, checkpoints, progress(run, plan, lambda _: None))
    with run.progress.step("test"):
        figures = _figures(catalogue, task, histories, frozen, tuned, trained)
    figures["gain"] = {"valid_ndcg@10": [round(value, 5) for value in ndcg_gain]}
    card = {"base": model.fingerprint, "figures": figures, "data": versions, "settings": options.settings()}
    write = partial(write_sequence_files, _files(options, model, catalogue, whitener, task))
    card = publish_model(paths, write, card, trained.records, better, _fingerprint)
    return model_report(card), better


def _fingerprint(folder: Path) -> str:
    return read_sequence_files(folder).fingerprint


def _build_task(options: TuningOptions, texts: Matrix, histories: Histories, fitted: int) -> SequenceTask:
    """A task on events of roles up to ``fitted``, validated on those of the next role."""
    users = np.ones(int(histories.owner.max()) + 1, bool)
    role = histories.role
    events = LabelledEvents(histories.items, histories.owner, role <= fitted, role == fitted + 1, users)
    return SequenceTask(
        texts,
        *events.history(),
        options.shape,
        validation_measure(events),
        batch=options.batch or BATCH,
        seed=options.seed,
        device=chosen_device(options.device),
    )


def _evaluated(task: SequenceTask, histories: Histories, role: int) -> NextItemResult:
    scorer = SequenceScores.of(task)
    return evaluate_scorer(scorer, len(scorer.vectors), histories, role)


def _figures(
    catalogue: Catalogue,
    task: SequenceTask,
    histories: Histories,
    frozen: NextItemResult,
    tuned: NextItemResult,
    trained: Trained,
) -> Report:
    """Metrics of both encoders on validation and test, and their relative lift."""
    base = evaluate_next_item(catalogue.vectors, histories, frozen.decay, TEST, frozen.shrink)
    used = {"whitening": frozen.shrink, "decay": frozen.decay}
    report: Report = {
        "best_epoch": trained.epoch,
        "frozen": {"validation": frozen.figures, "test": base.figures, "used": used},
        "tuned": {"validation": tuned.figures, "test": _evaluated(task, histories, TEST).figures},
        "users": int(histories.owner.max()) + 1,
    }
    return report | relative_lift(report["tuned"], report["frozen"])


def _files(
    options: TuningOptions, model: ModelSpec, catalogue: Catalogue, whitener: Whitening, task: SequenceTask
) -> SequenceFiles:
    items, encoder = task.module.items, task.module.encoder
    return SequenceFiles(
        shape=options.shape,
        encoder=model.fingerprint,
        shrink=options.shrink or 0.0,
        whitening=whitener,
        ids=catalogue.ids,
        text_map=items.map.detach().cpu().numpy(),
        offsets=items.offsets.detach().cpu().numpy(),
        transformer={name: values.detach().cpu().numpy() for name, values in encoder.state_dict().items()},
    )
