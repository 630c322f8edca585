"""Fine-tune an encoder on scores or histories: read the data, train, evaluate, publish a model folder."""

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
from recsys_spark.tune.steps.model_publishing import OutputPaths, model_report, output_paths, unreported_model

_METHODS = {
    "regression": ("full", "lora", "adalora", "ia3", "head"),
    "contrastive": ("projector", "lora", "adalora", "ia3", "full"),
    "sequence": ("sequence",),
    "masked_lm": ("full", "lora", "ia3"),
    "causal_lm": ("full", "lora", "ia3"),
}


def fine_tune_encoder(run: Run, options: TuningOptions) -> Report:
    """Check options and data, train the encoder and publish it.

    Raises:
        UsageError, InputError: before any training, for options or data that cannot be trained with.
        QualityError: the model is not better than its base; its folder has the name of the output with ``.rejected``.
    """
    paths = output_paths(options.output)
    if (card := unreported_model(paths, options.settings())) is not None:
        return _accept(model_report(card), card["status"] == "published", paths)
    model = trainable_model(run, options)
    dataset = read_dataset(run, options)
    if options.dry_run:
        return {"model": model.fingerprint, "tables": {}}
    if options.objective == "regression":
        from recsys_spark.tune.steps.tune_regression import tune_regression

        report, better = tune_regression(run, options, model, paths, dataset)
    elif options.objective == "sequence":
        from recsys_spark.tune.steps.tune_sequence import tune_sequence

        report, better = tune_sequence(run, options, model, paths)
    elif options.language:
        from recsys_spark.tune.steps.tune_language import tune_language

        report, better = tune_language(run, options, model, paths)
    else:
        from recsys_spark.tune.steps.tune_contrastive import tune_contrastive

        report, better = tune_contrastive(run, options, model, paths)
    return _accept(report, better, paths)


def trainable_model(run: Run, options: TuningOptions) -> ModelSpec:
    """The base model, after checking that it can be trained with these options."""
    _check_options(options)
    check_tracker(options.tracker)
    model = resolve_model(options, run)
    if options.method not in ("projector", "sequence") and read_head(Path(model.folder)):
        raise UsageError(
            f"model {model.folder} has dense layers after pooling, which --tuning={options.method} would drop: "
            "use its base model, or --tuning=projector, which adds layers after them"
        )
    return model


def read_dataset(run: Run, options: TuningOptions) -> Dataset | None:
    """The dataset file, after ingesting its tables if the objective reads them; None without ``dataset``."""
    if options.dataset is None:
        return None
    if options.data is None:
        raise UsageError("--dataset needs --data, the folder with its sources")
    dataset = load_dataset(options.dataset)
    if options.objective != "regression" or dataset.reviews is None:
        with run.progress.step("ingest_tables"):
            ingest_tables(run, _ingest_options(options))
    return dataset


def _check_options(options: TuningOptions) -> None:
    if options.objective == "sequence":
        _check_sequence_options(options)
        return
    if options.method not in _METHODS[options.objective]:
        methods = ", ".join(_METHODS[options.objective])
        raise UsageError(f"objective '{options.objective}' has no tuning '{options.method}'; it has {methods}")
    if options.precision != "fp32" or (options.engine or "torch") != "torch" or options.truncate_dim:
        raise UsageError(
            "training needs --precision=fp32 (on a GPU it uses bf16 by itself), --engine=torch and no --truncate_dim"
        )
    if options.long_text != "truncate":
        raise UsageError(
            "training reads only the beginning of long texts, and a model folder cannot select chunks: use "
            "--long_text=truncate"
        )
    if options.processes > 1 and options.language:
        raise UsageError(f"--objective={options.objective} trains in one process: use --processes=1")
    if options.processes > 1 and options.objective == "contrastive" and options.method != "projector":
        raise UsageError(
            "contrastive adapters train in one process, since the negatives are the texts of the whole batch: use "
            "--processes=1"
        )


def _check_sequence_options(options: TuningOptions) -> None:
    """Refuse options that a sequence encoder cannot use. Of the text encoder, any settings serve: it is frozen."""
    if options.tuning is not None:
        raise UsageError(
            f"--tuning={options.tuning} does not apply to --objective=sequence, which leaves the encoder as it is: "
            "leave it out"
        )
    if options.processes > 1:
        raise UsageError("--objective=sequence trains in one process: use --processes=1")
    if options.width % options.heads:
        raise UsageError(f"--heads={options.heads} does not divide --width={options.width}")
    if options.shrink is None:
        raise UsageError("--objective=sequence whitens the vectors of texts: give --shrink a number, such as 0.1")


def _ingest_options(options: TuningOptions) -> IngestOptions:
    keys = IngestOptions.model_fields
    return IngestOptions(**{key: value for key, value in options.model_dump().items() if key in keys})


def _accept(report: dict[str, Any], better: bool, paths: OutputPaths) -> Report:
    """The report of a published model; a QualityError with the report of a rejected one."""
    if better:
        return report | {"output": str(paths.published), "tables": {}}
    raise QualityError(
        f"the tuned model is not better than its base on validation (gain {report['gain']}); it is in "
        f"{paths.rejected}, with its metrics in training.json",
        report | {"output": str(paths.rejected), "tables": {}},
    )
