"""Distinct texts that the model has not seen → embeddings."""

import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.embed import (
    COSTS,
    distinct_texts,
    embedding_rows,
    estimated_tokens,
    gpu_profile,
    in_slice,
    missing_texts,
    spread_texts,
)
from recsys_spark.errors import QualityError
from recsys_spark.job import Run
from recsys_spark.kernels.model_folder import ModelSpec
from recsys_spark.options import EncoderOptions
from recsys_spark.steps.model import resolve_model, ship_model
from recsys_spark.steps.publishing import Inputs, Report, inputs, run_key
from recsys_spark.tables import EMBEDDINGS, ITEMS, QUARANTINE, USERS

_TASK_SHARE = 32  # texts: fewer are not worth a task of their own
_SAMPLE = 256  # texts that a dry run encodes


@dataclass(frozen=True)
class _Work:
    """Texts of one role that are not encoded yet."""

    model: ModelSpec
    missing: DataFrame
    texts: int
    tokens: int  # estimated
    known: int


def embed(run: Run, options: EncoderOptions) -> Report:
    """Append what is missing. A run with nothing new starts no encoder; one with the same items and users no Spark."""
    model = resolve_model(options)
    known = inputs(run, ITEMS, USERS)
    key = run_key("embed_texts", {"model": model.fingerprint, "inputs": known.versions})
    report: Report = {"status": "unchanged", "model": model.fingerprint, "texts_encoded": 0, "tables": {}}
    if not run.lake.has_commit(EMBEDDINGS, key):
        work = [_survey(run, role, texts) for role, texts in _roles(run, known, model)]
        report["cache_hits"] = sum(part.known for part in work)
        if options.dry_run:
            return report | _estimate(run, work, options)
        if any(part.texts for part in work) or run.lake.version(EMBEDDINGS) is None:
            report |= {"status": "done"} | _encode_all(run, options, work, key)
    return report | {"tables": {EMBEDDINGS.name: run.lake.rows(EMBEDDINGS)}}


def _roles(run: Run, known: Inputs, model: ModelSpec) -> Iterable[tuple[ModelSpec, DataFrame]]:
    """A text that items and users share is encoded once, unless their prompts differ."""
    items, users = known.frame(run, ITEMS), known.frame(run, USERS)
    if model.of_users.fingerprint == model.fingerprint:
        return [(model, distinct_texts(items, users))]
    return [(model, distinct_texts(items)), (model.of_users, distinct_texts(users))]


def _survey(run: Run, model: ModelSpec, texts: DataFrame) -> _Work:
    missing = missing_texts(texts, run.lake.read_or_empty(run.spark, EMBEDDINGS), model.fingerprint)
    tokens = F.coalesce(F.sum(estimated_tokens(model.max_length)), F.lit(0))
    todo = missing.agg(F.count("*").alias("texts"), tokens.alias("tokens")).first()
    assert todo is not None
    return _Work(model, missing, todo["texts"], todo["tokens"], texts.count() - todo["texts"])


def _estimate(run: Run, work: list[_Work], options: EncoderOptions) -> Report:
    """Tokens and seconds, from encoding the first texts by hash on one core of the driver."""
    report: Report = {"texts_to_encode": 0, "tokens_to_encode": 0, "estimated_seconds": 0}
    for part in work:
        report["texts_to_encode"] += part.texts
        sample = [row["text"] for row in part.missing.orderBy("text_hash").limit(_SAMPLE).select("text").collect()]
        if sample:
            from recsys_spark.kernels.encoder import Encoder

            encoder = Encoder(part.model)
            encoder.encode(sample[:8], options.batch_tokens)
            started = time.monotonic()
            tokens = encoder.encode(sample, options.batch_tokens).tokens.sum()
            share = part.texts / len(sample) / run.spark.sparkContext.defaultParallelism
            report["tokens_to_encode"] += round(tokens * part.texts / len(sample))
            report["estimated_seconds"] += round((time.monotonic() - started) * share)
    return report


def _encode_all(run: Run, options: EncoderOptions, work: list[_Work], key: str) -> Report:
    """Slice by slice, each committed by itself: what a killed run has committed, the next one finds done."""
    started = time.monotonic()
    slices = [max(1, -(-part.texts // options.texts_per_commit)) for part in work]
    plan = [(part, number, of) for part, of in zip(work, slices, strict=True) for number in range(of)]
    total: Counter[str] = Counter()
    for place, (part, number, of) in enumerate(plan, 1):
        ship_model(run.spark, part.model)
        done = _encode(run, options, part, number, of, key if place == len(plan) else f"{key}:{place}/{len(plan)}")
        done["workers"] = max(0, done["workers"] - total["workers"])  # the same ones again, most likely
        total.update(done)
        if place < len(plan):
            run.progress.note(f"embed_texts: {total['texts_encoded']:,} of {sum(p.texts for p in work):,} texts")
    seconds, padded = max(time.monotonic() - started, 1e-3), total.pop("padded")
    return {
        **total,
        "padding_share": round(1 - total["tokens"] / max(padded, 1), 4),
        "texts_per_second": round(total["texts_encoded"] / seconds, 1),
        "tokens_per_second": round(total["tokens"] / seconds),
    }


def _encode(run: Run, options: EncoderOptions, work: _Work, number: int, slices: int, key: str) -> Report:
    """Encode and publish one slice.

    Raises:
        QualityError: so many texts have no vector that the model must be at fault; the slice is not published.
    """
    tasks = _tasks(work, slices, run.spark.sparkContext.defaultParallelism, options.tokens_per_task)
    texts = work.missing.where(in_slice(number, slices)) if slices > 1 else work.missing
    cpus = int(run.spark.sparkContext.getConf().get("spark.task.cpus", "1"))
    profile = gpu_profile(options.gpu_share, cpus) if options.gpu_share else None
    make = embedding_rows(work.model, options.batch_tokens)
    staged = run.lake.stage(spread_texts(texts, tasks), EMBEDDINGS, make, profile)
    failures = sorted(failure for notes in staged.notes for failure in notes["failures"])
    if len(failures) > options.max_failed_share * (staged.rows + len(failures)):
        raise QualityError(
            f"{len(failures)} of {staged.rows + len(failures)} texts have no vector, more than max_failed_share "
            f"{options.max_failed_share}; the first: {failures[0][1]}"
        )
    _quarantine(run, failures, key)
    run.lake.commit(staged, key, append=True)
    names = {"truncated": "texts_truncated", "loads": "model_loads"}
    counts = {names.get(cost, cost): sum(notes[cost] for notes in staged.notes) for cost in COSTS}
    workers = len({worker for notes in staged.notes for worker in notes["workers"]})
    return {**counts, "workers": workers, "texts_encoded": staged.rows, "texts_failed": len(failures)}


def _tasks(work: _Work, slices: int, cores: int, tokens_per_task: int) -> int:
    """Full waves of even tasks; fewer than cores only where there is next to nothing to do."""
    texts, tokens = -(-work.texts // slices), -(-work.tokens // slices)
    waves = max(1, -(-tokens // (tokens_per_task * cores)))
    return max(1, min(cores, -(-texts // _TASK_SHARE))) if waves == 1 else waves * cores


def _quarantine(run: Run, failures: list[list[str]], key: str) -> None:
    if failures:
        rows = [(EMBEDDINGS.name, reason, json.dumps({"text_hash": name})) for name, reason in failures]
        frame = run.spark.createDataFrame(rows, QUARANTINE.ddl)
        run.lake.commit(run.lake.stage(frame, QUARANTINE), key, append=True)
