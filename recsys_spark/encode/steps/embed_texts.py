"""Encode the distinct texts that the model has not embedded yet, and append them to the table ``embeddings``."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date

from pyspark.sql import DataFrame

from recsys_spark.encode.embedding import (
    COUNTERS,
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

_TASK_TEXTS = 32  # a task with fewer texts costs more than it saves

_SAMPLE = 256  # texts that a dry run encodes

_MAX_SLICES = 20  # each slice reads the tables again to find its texts

_ATTEMPTS = 5  # to append, if other runs commit first

_MAX_UNKNOWN = 0.1  # a larger share of unknown tokens gives a warning

_MAX_COMMITS = 50  # latest commits that are searched for one with the same key

_MIN_FAILURES = 100  # a slice with at least this many failures is also checked by itself


@dataclass(frozen=True)
class _Work:
    """The texts of one role that are not encoded yet, and counts of its other texts."""

    model: ModelSpec
    missing: DataFrame
    texts: int  # missing
    tokens: int  # of missing texts, estimated
    cached: int
    failed: int  # in earlier runs


def embed_texts(run: Run, options: EncoderOptions, *, retry: bool = False, run_date: date | None = None) -> Report:
    """Encode missing texts and append them. Without missing texts no encoder starts; with unchanged items and users no
    Spark does.

    ``retry``: also encode texts that failed before. ``run_date``: that of the refresh, for the log of changes.
    """
    model = resolve_model(options, run)
    inputs = pin_inputs(run, ITEMS, USERS)
    key = run_key("embed_texts", {"model": model.fingerprint, "inputs": inputs.content_ids})
    report: Report = {"status": "unchanged", "model": model.fingerprint, "texts_encoded": 0, "tables": {}}
    last = run.lake.last_commit(EMBEDDINGS)
    if last is not None and last.key and not options.dry_run:
        complete_log(run, last.key, [EMBEDDINGS])  # an earlier run may have been killed before it logged this commit
    if retry or not _is_encoded(run, key):
        work = [_survey(run, role, texts, retry) for role, texts in _roles(run, inputs, model)]
        report["cache_hits"] = sum(part.cached for part in work)
        if options.dry_run:
            return report | _estimate(run, work, options)
        if any(part.texts for part in work) or run.lake.version(EMBEDDINGS) is None:
            base = None if last is None else last.version
            report |= {"status": "done"} | _encode_all(run, options, work, key, base, run_date)
    return report | {"tables": {EMBEDDINGS.name: run.lake.rows(EMBEDDINGS)}}


def _is_encoded(run: Run, key: str) -> bool:
    """Whether a run with this ``key`` has committed, and nobody but this step has changed the table since:
    ``forget_users`` removes embeddings, and so does whoever restores an older version."""
    if run.lake.has_commit(EMBEDDINGS, key):
        for commit in run.lake.commits(EMBEDDINGS, _MAX_COMMITS):
            if commit.key == key or not (commit.key or "").startswith("embed_texts:"):
                return commit.key == key
    return False


def _roles(run: Run, inputs: InputVersions, model: ModelSpec) -> Iterable[tuple[ModelSpec, DataFrame]]:
    """The encoder of each role and its distinct texts: one role for items and users, unless their prompts differ."""
    items, users = inputs.frame(run, ITEMS), inputs.frame(run, USERS)
    if model.for_users.fingerprint == model.fingerprint:
        return [(model, distinct_texts(items, users))]
    return [(model, distinct_texts(items)), (model.for_users, distinct_texts(users))]


def _survey(run: Run, model: ModelSpec, texts: DataFrame, retry: bool) -> _Work:
    embeddings, failed = (run.lake.read_or_empty(run.spark, table) for table in (EMBEDDINGS, FAILED_TEXTS))
    if retry:
        failed = failed.limit(0)
    counts = count_texts(texts, embeddings, failed, model).collect()[0].asDict()
    missing = missing_texts(texts, embeddings, failed, model.fingerprint)
    return _Work(model, missing, counts["missing"], counts["tokens"], counts["embedded"], counts["failed"])


def _estimate(run: Run, work: list[_Work], options: EncoderOptions) -> Report:
    """Estimate tokens and seconds from a sample, the first texts by hash, encoded on one core of the driver."""
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
            share = part.texts / len(sample) / run.cores
            report["tokens_to_encode"] += round(tokens * part.texts / len(sample))
            report["estimated_seconds"] += round((time.monotonic() - started) * share)
    return report


def _encode_all(
    run: Run, options: EncoderOptions, work: list[_Work], key: str, base: int | None, run_date: date | None
) -> Report:
    """Encode slice by slice and commit each one, so that a killed run repeats only its last slice.

    ``base``: the version of ``embeddings`` from which the texts are missing.
    """
    started = time.monotonic()
    slices = [min(_MAX_SLICES, max(1, -(-part.texts // options.texts_per_commit))) for part in work]
    plan = [(part, number, count) for part, count in zip(work, slices, strict=True) for number in range(count)]
    total, failed, workers = Counter[str](), Counter[str](), set[str]()
    for step, (part, number, count) in enumerate(plan, 1):
        ship_model(run.spark, part.model)
        slice_key = key if step == len(plan) else f"{key}:{step}/{len(plan)}"
        staged = _encode(run, options, part, number, count, slice_key, earlier=failed[part.model.fingerprint])
        staged, base = _append(run, staged, slice_key, base, run_date)
        failed[part.model.fingerprint] += sum(stats["texts_failed"] for stats in staged.stats)
        total["texts_encoded"] += staged.rows
        for stats in staged.stats:
            total.update({name: stats[name] for name in COUNTERS})
            workers.add(stats["worker"])
        if step < len(plan):
            run.progress.note(f"embed_texts: {total['texts_encoded']:,} of {sum(p.texts for p in work):,} texts")
    seconds, padded = max(time.monotonic() - started, 1e-3), total["padded_tokens"]
    return {
        "texts_encoded": total["texts_encoded"],
        **{name: total[name] for name in COUNTERS if name not in ("padded_tokens", "text_tokens")},
        "unknown_share": _unknown_share(run, total["unknown_tokens"], total["text_tokens"]),
        "workers": len(workers),
        "padding_share": round(1 - total["tokens"] / padded, 4) if padded else 0.0,
        "texts_per_second": round(total["texts_encoded"] / seconds, 1),
        "tokens_per_second": round(total["tokens"] / seconds),
    }


def _unknown_share(run: Run, unknown: int, tokens: int) -> float:
    """Share of tokens that are the unknown token; warn if it is large, because such texts become indistinguishable."""
    share = round(unknown / tokens, 4) if tokens else 0.0
    if share > _MAX_UNKNOWN:
        run.progress.note(
            f"warning: the model does not know {share:.1%} of the tokens of these texts: different texts can have the "
            "same vector. Take a --model whose tokenizer covers their script"
        )
    return share


def _encode(
    run: Run, options: EncoderOptions, work: _Work, number: int, slices: int, key: str, *, earlier: int
) -> Staged:
    """Encode one slice; ``earlier``: failures in the slices before it."""
    tasks = _tasks(work, slices, run.cores, options.tokens_per_task)
    texts = work.missing.where(in_slice(number, slices)) if slices > 1 else work.missing
    cpus = int(run.spark.sparkContext.getConf().get("spark.task.cpus", "1"))
    profile = gpu_profile(options.gpu_share, cpus) if options.gpu_share else None
    embed = embedding_rows(work.model, options.batch_tokens)
    staged = run.lake.stage(spread_texts(texts, tasks), EMBEDDINGS, embed, profile)
    failures = sorted(failure for stats in staged.stats for failure in stats["failures"])
    _check_failures(options, work, staged, failures, earlier)
    _append_failures(run, work.model, failures, key)
    return staged


def _append(run: Run, staged: Staged, key: str, base: int | None, run_date: date | None) -> tuple[Staged, int]:
    """Commit a slice without the texts that another run has encoded since: a text has one vector per model. Returns the
    committed slice and its version."""
    for _ in range(_ATTEMPTS):
        last = run.lake.last_commit(EMBEDDINGS)
        if last is not None and last.version != base:
            staged, base = _still_missing(run, staged, last), last.version
        rows = run.lake.rows(EMBEDDINGS) + staged.rows
        change = Change(EMBEDDINGS.name, f"{staged.rows} new texts", rows, {"added": staged.rows})
        outcome = Outcome(changes=change.record(run_date)) if staged.rows else None
        try:
            version = run.lake.commit(replace(staged, base=base), key, append=True, exclusive=True, outcome=outcome)
        except ConflictError as error:
            conflict = error
            continue
        log_changes(run, key, run_date, [change] if staged.rows else [])
        return staged, version
    raise conflict


def _still_missing(run: Run, staged: Staged, last: Commit) -> Staged:
    embedded = run.lake.read(run.spark, EMBEDDINGS, last.version).select(*EMBEDDINGS.key)
    rows = run.lake.read_staged(run.spark, staged).join(embedded, on=list(EMBEDDINGS.key), how="left_anti")
    missing = run.lake.stage(rows.select(*EMBEDDINGS.columns), EMBEDDINGS)
    run.lake.discard(staged)
    run.progress.note(f"embed_texts: another run has encoded {staged.rows - missing.rows} of these texts since")
    return replace(missing, stats=staged.stats)


def _check_failures(
    options: EncoderOptions, work: _Work, staged: Staged, failures: list[list[str]], earlier: int
) -> None:
    """Compare the share of failed texts with max_failed_share.

    The share is taken among all texts, because a refresh may bring only two new ones. In a slice with at least
    ``_MIN_FAILURES`` failures, the share within the slice is compared too. ``earlier``: failures in the slices before.

    Raises:
        QualityError: a share is larger, probably because of a fault of the model; the slice is not published.
    """
    failed, share = sum(stats["texts_failed"] for stats in staged.stats), options.max_failed_share
    of_all = (failed + earlier + work.failed, work.cached + work.failed + work.texts)
    of_slice = (failed, staged.rows + failed)
    for failures_in, texts_in in (of_all, of_slice) if failed >= _MIN_FAILURES else (of_all,):
        if failed and failures_in > share * texts_in:
            raise QualityError(
                f"{failures_in} of {texts_in} texts have no vector, more than max_failed_share {share}; "
                f"the first reason: {failures[0][1]}. Nothing of this slice was published"
            )


def _tasks(work: _Work, slices: int, cores: int, tokens_per_task: int) -> int:
    """Number of tasks: a multiple of the cores, so that all are busy to the end; fewer only for very few texts."""
    texts, tokens = -(-work.texts // slices), -(-work.tokens // slices)
    waves = max(1, -(-tokens // (tokens_per_task * cores)))
    return max(1, min(cores, -(-texts // _TASK_TEXTS))) if waves == 1 else waves * cores


def _append_failures(run: Run, model: ModelSpec, failures: list[list[str]], key: str) -> None:
    """Append failed texts that the table does not have yet, so that later runs do not try them again."""
    if failures:
        rows = [(text_hash, model.fingerprint, reason) for text_hash, reason in failures]
        frame = run.spark.createDataFrame(rows, FAILED_TEXTS.ddl)
        stored = run.lake.read_or_empty(run.spark, FAILED_TEXTS).select("text_hash", "model")
        new = frame.join(stored, on=["text_hash", "model"], how="left_anti").select(*FAILED_TEXTS.columns).coalesce(1)
        staged = run.lake.stage(new, FAILED_TEXTS)
        if staged.rows:
            run.lake.commit(staged, key, append=True)
        else:
            run.lake.discard(staged)
