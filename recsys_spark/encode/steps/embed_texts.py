"""Distinct texts that the model has not seen → embeddings."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date

from pyspark.sql import DataFrame

from recsys_spark.encode.embedding import (
    COSTS,
    count_texts,
    distinct_texts,
    embedding_rows,
    gpu_profile,
    in_slice,
    missing_texts,
    spread_texts,
)
from recsys_spark.encode.kernels.model_folder import ModelSpec
from recsys_spark.encode.options import EncoderOptions
from recsys_spark.encode.steps.model_source import resolve_model, ship_model
from recsys_spark.errors import ConflictError, QualityError
from recsys_spark.lake.lake import Commit, Staged
from recsys_spark.lake.provenance import Outcome
from recsys_spark.publish.steps.change_log import Change, complete_log, log_changes
from recsys_spark.publish.steps.publishing import InputVersions, Report, pin_inputs, run_key
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import EMBEDDINGS, FAILED_TEXTS, ITEMS, USERS

_TASK_SHARE = 32  # texts: fewer are not worth a task of their own

_SAMPLE = 256  # texts that a dry run encodes

_MOST_SLICES = 20  # each reads the tables again to find its texts

_ATTEMPTS = 5  # to append, each overtaken by another run

_MOST_UNKNOWN = 0.1  # share of tokens: above it there is a warning

_LOOKED_AT = 50  # commits among which that of the same texts is sought

_ENOUGH = 100  # failures of one slice that tell something of the model, however many texts it knows


@dataclass(frozen=True)
class _Work:
    """Texts of one role that are not encoded yet."""

    model: ModelSpec
    missing: DataFrame
    texts: int
    tokens: int  # estimated
    cached: int
    failed: int  # in earlier runs


def embed_texts(run: Run, options: EncoderOptions, *, retry: bool = False, run_date: date | None = None) -> Report:
    """Append what is missing. A run with nothing new starts no encoder; one with the same items and users no Spark.

    ``retry``: also texts that could not be encoded before; ``run_date``: of the refresh, for the log of changes.
    """
    model = resolve_model(options, run)
    inputs = pin_inputs(run, ITEMS, USERS)
    key = run_key("embed_texts", {"model": model.fingerprint, "inputs": inputs.content_ids})
    report: Report = {"status": "unchanged", "model": model.fingerprint, "texts_encoded": 0, "tables": {}}
    head = run.lake.last_commit(EMBEDDINGS)
    if head is not None and head.key and not options.dry_run:
        complete_log(run, head.key, [EMBEDDINGS])  # an earlier run may have been killed before it logged this commit
    if retry or not _is_encoded(run, key):
        work = [_survey(run, role, texts, retry) for role, texts in _roles(run, inputs, model)]
        report["cache_hits"] = sum(part.cached for part in work)
        if options.dry_run:
            return report | _estimate(run, work, options)
        if any(part.texts for part in work) or run.lake.version(EMBEDDINGS) is None:
            report |= {"status": "done"} | _encode_all(
                run, options, work, key, None if head is None else head.version, run_date
            )
    return report | {"tables": {EMBEDDINGS.name: run.lake.rows(EMBEDDINGS)}}


def _is_encoded(run: Run, key: str) -> bool:
    """Whether the run ``key`` has encoded its texts, and ``forget_users`` has removed none since."""
    if run.lake.has_commit(EMBEDDINGS, key):
        for head in run.lake.commits(EMBEDDINGS, _LOOKED_AT):
            if head.key == key or (head.key or "").startswith("forget_users:"):
                return head.key == key
    return False


def _roles(run: Run, inputs: InputVersions, model: ModelSpec) -> Iterable[tuple[ModelSpec, DataFrame]]:
    """A text that items and users share is encoded once, unless their prompts differ."""
    items, users = inputs.frame(run, ITEMS), inputs.frame(run, USERS)
    if model.of_users.fingerprint == model.fingerprint:
        return [(model, distinct_texts(items, users))]
    return [(model, distinct_texts(items)), (model.of_users, distinct_texts(users))]


def _survey(run: Run, model: ModelSpec, texts: DataFrame, retry: bool) -> _Work:
    embeddings, failed = (run.lake.read_or_empty(run.spark, table) for table in (EMBEDDINGS, FAILED_TEXTS))
    if retry:
        failed = failed.limit(0)
    counts = count_texts(texts, embeddings, failed, model).collect()[0].asDict()
    missing = missing_texts(texts, embeddings, failed, model.fingerprint)
    return _Work(model, missing, counts["missing"], counts["tokens"], counts["known"], counts["failed"])


def _estimate(run: Run, work: list[_Work], options: EncoderOptions) -> Report:
    """Tokens and seconds, from encoding the first texts by hash on one core of the driver."""
    report: Report = {"texts_to_encode": 0, "tokens_to_encode": 0, "estimated_seconds": 0}
    for part in work:
        report["texts_to_encode"] += part.texts
        sample = [row["text"] for row in part.missing.orderBy("text_hash").limit(_SAMPLE).select("text").collect()]
        if sample:
            from recsys_spark.encode.kernels.encoder import Encoder, load_model

            encoder = Encoder(part.model, load_model(part.model, part.model.folder)[0])
            encoder.encode(sample[:8], options.batch_tokens)
            started = time.monotonic()
            tokens = encoder.encode(sample, options.batch_tokens).tokens.sum()
            share = part.texts / len(sample) / run.spark.sparkContext.defaultParallelism
            report["tokens_to_encode"] += round(tokens * part.texts / len(sample))
            report["estimated_seconds"] += round((time.monotonic() - started) * share)
    return report


def _encode_all(
    run: Run, options: EncoderOptions, work: list[_Work], key: str, base: int | None, run_date: date | None
) -> Report:
    """Slice by slice, each committed by itself: what a killed run has committed, the next one finds done. ``base``: the
    version that the texts are missing from."""
    started = time.monotonic()
    slices = [min(_MOST_SLICES, max(1, -(-part.texts // options.texts_per_commit))) for part in work]
    plan = [(part, number, of) for part, of in zip(work, slices, strict=True) for number in range(of)]
    total, workers = Counter[str](), set[str]()
    for place, (part, number, of) in enumerate(plan, 1):
        ship_model(run.spark, part.model)
        name = key if place == len(plan) else f"{key}:{place}/{len(plan)}"
        staged = _encode(run, options, part, number, of, name, before=total[f"failed {part.model.fingerprint}"])
        staged, base = _append(run, staged, name, base, run_date)
        total[f"failed {part.model.fingerprint}"] += sum(notes["texts_failed"] for notes in staged.stats)
        total["texts_encoded"] += staged.rows
        for notes in staged.stats:
            total.update({cost: notes[cost] for cost in COSTS})
            workers.add(notes["worker"])
        if place < len(plan):
            run.progress.note(f"embed_texts: {total['texts_encoded']:,} of {sum(p.texts for p in work):,} texts")
    seconds, padded = max(time.monotonic() - started, 1e-3), total["padded_tokens"]
    return {
        "texts_encoded": total["texts_encoded"],
        **{cost: total[cost] for cost in COSTS if cost not in ("padded_tokens", "text_tokens")},
        "unknown_share": _unknown_share(run, total["unknown_tokens"], total["text_tokens"]),
        "workers": len(workers),
        "padding_share": round(1 - total["tokens"] / padded, 4) if padded else 0.0,
        "texts_per_second": round(total["texts_encoded"] / seconds, 1),
        "tokens_per_second": round(total["tokens"] / seconds),
    }


def _unknown_share(run: Run, unknown: int, tokens: int) -> float:
    """The share of tokens that the model does not know, with a warning where texts are likely to be alike to it."""
    share = round(unknown / tokens, 4) if tokens else 0.0
    if share > _MOST_UNKNOWN:
        run.progress.note(
            f"warning: the model does not know {share:.1%} of the tokens of these texts: different texts can have the "
            "same vector. Take a --model whose tokenizer covers their script"
        )
    return share


def _encode(
    run: Run, options: EncoderOptions, work: _Work, number: int, slices: int, key: str, *, before: int
) -> Staged:
    """Encode one slice; ``before``: failures of the slices before it."""
    tasks = _tasks(work, slices, run.spark.sparkContext.defaultParallelism, options.tokens_per_task)
    texts = work.missing.where(in_slice(number, slices)) if slices > 1 else work.missing
    cpus = int(run.spark.sparkContext.getConf().get("spark.task.cpus", "1"))
    profile = gpu_profile(options.gpu_share, cpus) if options.gpu_share else None
    make = embedding_rows(work.model, options.batch_tokens)
    staged = run.lake.stage(spread_texts(texts, tasks), EMBEDDINGS, make, profile)
    failures = sorted(failure for notes in staged.stats for failure in notes["failures"])
    _check_failures(options, work, staged, failures, before)
    _remember(run, work.model, failures, key)
    return staged


def _append(run: Run, staged: Staged, key: str, base: int | None, run_date: date | None) -> tuple[Staged, int]:
    """Commit a slice, without the texts that another run has encoded meanwhile: a text has one vector. Returns what was
    committed and the version that then is shown."""
    for _ in range(_ATTEMPTS):
        head = run.lake.last_commit(EMBEDDINGS)
        if head is not None and head.version != base:
            staged, base = _still_missing(run, staged, head), head.version
        rows = run.lake.rows(EMBEDDINGS) + staged.rows
        change = Change(EMBEDDINGS.name, f"{staged.rows} new texts", rows, {"added": staged.rows})
        outcome = Outcome(changes=change.record(run_date)) if staged.rows else None
        try:
            version = run.lake.commit(replace(staged, base=base), key, append=True, exclusive=True, outcome=outcome)
        except ConflictError as error:
            overtaken = error
            continue
        log_changes(run, key, run_date, [change] if staged.rows else [])
        return staged, version
    raise overtaken


def _still_missing(run: Run, staged: Staged, head: Commit) -> Staged:
    there = run.lake.read(run.spark, EMBEDDINGS, head.version).select(*EMBEDDINGS.key)
    rows = run.lake.read_staged(run.spark, staged).join(there, on=list(EMBEDDINGS.key), how="left_anti")
    left = run.lake.stage(rows.select(*EMBEDDINGS.columns), EMBEDDINGS)
    run.lake.discard(staged)
    run.progress.note(f"embed_texts: {staged.rows - left.rows} texts were encoded by another run meanwhile")
    return replace(left, stats=staged.stats)


def _check_failures(
    options: EncoderOptions, work: _Work, staged: Staged, failures: list[list[str]], before: int
) -> None:
    """A share of all texts, since a night may bring two new ones; of the slice alone where that tells of the model.

    Raises:
        QualityError: so many texts have no vector that the model must be at fault; the slice is not published.
    """
    failed, share = sum(notes["texts_failed"] for notes in staged.stats), options.max_failed_share
    of_all = (failed + before + work.failed, work.cached + work.failed + work.texts)
    of_slice = (failed, staged.rows + failed)
    for bad, number in (of_all, of_slice) if failed >= _ENOUGH else (of_all,):
        if failed and bad > share * number:
            raise QualityError(
                f"{bad} of {number} texts have no vector, more than max_failed_share {share}; "
                f"the first: {failures[0][1]}. Nothing of this slice was published"
            )


def _tasks(work: _Work, slices: int, cores: int, tokens_per_task: int) -> int:
    """Full waves of even tasks; fewer than cores only where there is next to nothing to do."""
    texts, tokens = -(-work.texts // slices), -(-work.tokens // slices)
    waves = max(1, -(-tokens // (tokens_per_task * cores)))
    return max(1, min(cores, -(-texts // _TASK_SHARE))) if waves == 1 else waves * cores


def _remember(run: Run, model: ModelSpec, failures: list[list[str]], key: str) -> None:
    """Texts that would fail again every night are not tried again. Those that the table has already are not added."""
    if failures:
        rows = [(name, model.fingerprint, reason) for name, reason in failures]
        frame = run.spark.createDataFrame(rows, FAILED_TEXTS.ddl)
        known = run.lake.read_or_empty(run.spark, FAILED_TEXTS).select("text_hash", "model")
        new = frame.join(known, on=["text_hash", "model"], how="left_anti").select(*FAILED_TEXTS.columns).coalesce(1)
        staged = run.lake.stage(new, FAILED_TEXTS)
        if staged.rows:
            run.lake.commit(staged, key, append=True)
        else:
            run.lake.discard(staged)
