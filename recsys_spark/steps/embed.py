"""Distinct texts that the model has not seen → embeddings."""

from importlib.util import find_spec
from pathlib import Path

from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F

from recsys_spark.embed import distinct_texts, embed_texts, missing_texts
from recsys_spark.errors import UsageError
from recsys_spark.job import Run
from recsys_spark.kernels.model_folder import ModelSpec, read_model
from recsys_spark.options import EncoderOptions
from recsys_spark.steps.publishing import Report, inputs, run_key
from recsys_spark.tables import EMBEDDINGS, ITEMS, USERS

_TASK_SHARE = 32  # texts: fewer are not worth a task of their own


def resolve_model(options: EncoderOptions) -> ModelSpec:
    """The encoder that the options name, read once on the driver.

    Raises:
        UsageError, InputError: the package or the folder is not there or not usable.
    """
    folder = options.model
    if folder.startswith("package:"):
        name = folder.removeprefix("package:")
        found = find_spec(name) if name.isidentifier() else None
        if found is None or not found.submodule_search_locations:
            raise UsageError(
                f"model package '{name}' is not installed; give --model=FOLDER, or install it on every machine"
            )
        root = Path(found.submodule_search_locations[0])
        folder = str(
            next(
                (config.parent for config in sorted(root.glob("**/config.json")) if "Pooling" not in str(config)), root
            )
        )
    return read_model(str(Path(folder).expanduser().absolute()), options.pooling, options.max_length, options.prompt)


def embed(run: Run, options: EncoderOptions) -> Report:
    """Append what is missing. A run with nothing new starts no encoder; one with the same items and users no Spark."""
    model = resolve_model(options)
    known = inputs(run, ITEMS, USERS)
    key = run_key("embed_texts", {"model": model.fingerprint, "inputs": known.versions})
    report: Report = {"status": "unchanged", "model": model.fingerprint, "texts_encoded": 0, "tables": {}}
    if not run.lake.has_commit(EMBEDDINGS, key):
        embeddings = run.lake.read_or_empty(run.spark, EMBEDDINGS)
        texts = distinct_texts(known.frame(run, ITEMS), known.frame(run, USERS))
        missing = missing_texts(texts, embeddings, model.fingerprint)
        count = missing.count()
        if options.dry_run:
            return report | {"texts_to_encode": count}
        if count or run.lake.version(EMBEDDINGS) is None:
            report |= {"status": "done"} | _encode(run, options, model, missing, count, key)
    return report | {"tables": {EMBEDDINGS.name: run.lake.rows(EMBEDDINGS)}}


def _encode(run: Run, options: EncoderOptions, model: ModelSpec, missing: DataFrame, count: int, key: str) -> Report:
    cores = run.spark.sparkContext.defaultParallelism
    tasks = max(1, min(cores, -(-count // _TASK_SHARE)), -(-count // options.texts_per_task))
    work = Observation("encoding")
    encoded = embed_texts(missing, model, tasks=tasks, batch_tokens=options.batch_tokens)
    encoded = encoded.observe(work, F.sum("tokens").alias("tokens"), F.sum("truncated").alias("truncated"))
    staged = run.lake.stage(encoded.select(*EMBEDDINGS.columns), EMBEDDINGS)
    run.lake.commit(staged, key, append=True)
    # Spark drops what it knows to be empty, observation included.
    figures = work.get if count else {"tokens": 0, "truncated": 0}
    return {
        "texts_encoded": staged.rows,
        "texts_failed": count - staged.rows,
        "tokens": figures["tokens"] or 0,
        "texts_truncated": figures["truncated"] or 0,
    }
