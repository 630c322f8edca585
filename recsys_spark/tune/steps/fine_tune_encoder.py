"""An encoder tuned on scores or histories: pairs, training, verdict, model folder."""

from pathlib import Path
from typing import Any

from recsys_spark.encode.kernels.dense_head import read_head
from recsys_spark.encode.kernels.model_folder import ModelSpec
from recsys_spark.encode.steps.model_source import resolve_model
from recsys_spark.errors import QualityError, UsageError
from recsys_spark.ingest.options import IngestOptions
from recsys_spark.ingest.steps.ingest_tables import ingest_tables
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.sources.dataset_file import Dataset, load_dataset
from recsys_spark.tune.kernels.tracking import check_tracker
from recsys_spark.tune.options import TuningOptions
from recsys_spark.tune.steps.model_publishing import OutputPaths, finished, output_paths, reported

_METHODS = {
    "regression": ("full", "lora", "adalora", "ia3", "head"),
    "contrastive": ("projector", "lora", "adalora", "ia3", "full"),
}


def fine_tune_encoder(run: Run, options: TuningOptions) -> Report:
    """Check everything that can be checked, read, train, publish.

    Raises:
        UsageError, InputError: before any training, for what cannot be trained.
        QualityError: the model is no better than its base; it is kept under the name that ends in ``.rejected``.
    """
    where = output_paths(options.output)
    if (card := finished(where, options.facts())) is not None:
        return _verdict(reported(card), card["status"] == "published", where)
    model = checked_model(run, options)
    dataset = read_dataset(run, options)
    if options.dry_run:
        return {"model": model.fingerprint, "tables": {}}
    if options.objective == "regression":
        from recsys_spark.tune.steps.tune_regression import tune_regression

        report, better = tune_regression(run, options, model, where, dataset)
    else:
        from recsys_spark.tune.steps.tune_contrastive import tune_contrastive

        report, better = tune_contrastive(run, options, model, where)
    return _verdict(report, better, where)


def checked_model(run: Run, options: TuningOptions) -> ModelSpec:
    """The base, if it and the settings can be trained."""
    if options.method not in _METHODS[options.objective]:
        known = ", ".join(_METHODS[options.objective])
        raise UsageError(f"tuning '{options.method}' has no objective '{options.objective}'; it has {known}")
    if options.precision != "fp32" or (options.engine or "torch") != "torch" or options.truncate_dim:
        raise UsageError("training is in fp32 (bf16 on a GPU by itself) with engine torch and whole vectors")
    if options.long_text != "truncate":
        raise UsageError(
            "training reads the beginning of long texts, and a model folder cannot ask for pieces: --long_text=truncate"
        )
    if options.processes > 1 and options.objective == "contrastive" and options.method != "projector":
        raise UsageError("adapters on histories train in one process: their negatives are the texts of the whole batch")
    check_tracker(options.tracker)
    model = resolve_model(options, run)
    if options.method != "projector" and read_head(Path(model.folder)):
        raise UsageError(
            f"model {model.folder} has dense layers after pooling, which --tuning={options.method} leaves out: "
            "take its base, or --tuning=projector, which adds to them"
        )
    return model


def read_dataset(run: Run, options: TuningOptions) -> Dataset | None:
    """The dataset file, its tables made where they are needed; None where the lake's tables are asked for."""
    if options.dataset is None:
        return None
    if options.data is None:
        raise UsageError("--dataset needs --data, the folder that holds its sources")
    dataset = load_dataset(options.dataset)
    if options.objective == "contrastive" or dataset.reviews is None:
        with run.progress.step("ingest_tables"):
            ingest_tables(run, _ingest(options))
    return dataset


def _ingest(options: TuningOptions) -> IngestOptions:
    keys = IngestOptions.model_fields
    return IngestOptions(**{key: value for key, value in options.model_dump().items() if key in keys})


def _verdict(report: dict[str, Any], better: bool, where: OutputPaths) -> Report:
    if better:
        return report | {"output": str(where.published), "tables": {}}
    raise QualityError(
        f"the tuned model is not better than its base on validation (gain {report['gain']}); it is kept in "
        f"{where.rejected}, with its figures in training.json",
        report | {"output": str(where.rejected), "tables": {}},
    )
