"""Compare scorers under a protocol: fit them, tune them on validation, evaluate them on the test."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from pyarrow.fs import FileSystem, FileType
from pyspark.sql import DataFrame

from recsys_spark.encode.steps.embed_texts import embed_texts
from recsys_spark.encode.steps.model_source import resolve_model
from recsys_spark.errors import InputError
from recsys_spark.evaluate.comparison import (
    RANKED_SEEN,
    REPEATS,
    SUMS_DDL,
    Candidate,
    EvaluationSpec,
    candidate_sums,
    merge_totals,
)
from recsys_spark.evaluate.comparison_summary import (
    gaps,
    metrics_of,
    objective,
    slice_metrics,
    validation_metrics,
    warnings_of,
    windows_summary,
)
from recsys_spark.evaluate.protocols import FIT, VALID, newest_events, user_rows, with_roles
from recsys_spark.evaluate.steps.comparison_options import ComparisonOptions
from recsys_spark.evaluate.steps.event_splits import EventSplit, event_splits
from recsys_spark.evaluate.steps.fitted_scorers import Items, ScorerFitter, read_items
from recsys_spark.evaluate.steps.rating_errors import rating_errors
from recsys_spark.evaluate.steps.search_grids import GRIDS, Setting, drop_infeasible, first_setting
from recsys_spark.evaluate.terminal_tables import show_comparison
from recsys_spark.events.steps.check_event_types import check_event_types
from recsys_spark.ingest.steps.ingest_tables import ingest_tables
from recsys_spark.publish.steps.publishing import InputVersions, Report, pin_inputs
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.run_date import events_before
from recsys_spark.tables.schemas import EMBEDDINGS, EVENTS, ITEMS, USERS


def evaluate_models(run: Run, options: ComparisonOptions) -> Report:
    """Ingest the data set, embed its texts, compare the scorers and print tables; returns metrics by scorer.

    Unchanged data is not ingested again, and texts that have embeddings are not embedded again.
    """
    model = resolve_model(options, run)
    with run.progress.step("ingest_tables"):
        tables = ingest_tables(run, options)["tables"]
    if options.dry_run:
        return {"tables": {}}
    check_event_types(run, pin_inputs(run, EVENTS), options)
    with run.progress.step("embed_texts"):
        embed_texts(run, options)
    inputs = pin_inputs(run, ITEMS, USERS, EVENTS, EMBEDDINGS)
    with run.progress.step("read items and split events"):
        items = read_items(run, inputs.frame(run, ITEMS), inputs.frame(run, EMBEDDINGS), model.fingerprint)
        events = events_before(inputs.frame(run, EVENTS), options.run_date)
        splits = event_splits(events, options)
    names, warnings = drop_infeasible(options.scorers, len(items.ids), mask_seen=options.mask_seen)
    with _scratch(run) as uri:
        reports = [_compare(run, options, names, items, inputs, split, f"{uri}/{n}") for n, split in enumerate(splits)]
        report = reports[-1] | {"windows": windows_summary(reports, options.metrics_k)}
        with run.progress.step("ratings"):
            report |= {"ratings": rating_errors(events, items.ids, items.vectors, options.seed)}
    warnings += warnings_of(report["metrics"], options.metrics_k)
    conditions: Report = {"mask_seen": options.mask_seen, "refit": options.refit}
    if options.mask_seen:
        conditions |= {"seen_targets": options.seen_targets}
    report = conditions | report
    report |= {"items": tables[ITEMS.name], "texts": items.text_quality, "warnings": warnings}
    show_comparison(report, options.metrics_k, warnings)
    return report | {"tables": {}}


@contextmanager
def _scratch(run: Run) -> Iterator[str]:
    """A folder for the arrays of scorers, removed at the end."""
    uri = f"{run.lake.uri}/_blocks/comparison/{uuid4().hex}"
    try:
        yield uri
    finally:
        filesystem, path = FileSystem.from_uri(uri)
        if filesystem.get_file_info(path).type == FileType.Directory:
            filesystem.delete_dir(path)


def _compare(
    run: Run,
    options: ComparisonOptions,
    names: Sequence[str],
    items: Items,
    inputs: InputVersions,
    split: EventSplit,
    scratch: str,
) -> Report:
    """The figures of the scorers under one split, with its protocol and days."""
    protocol: Report = {"protocol": split.protocol.name} | split.days
    run.progress.note(", ".join(f"{name} {value}" for name, value in protocol.items()))
    newest = newest_events(split.events, options.max_history, options.shuffle_ties)
    users = user_rows(with_roles(newest, split.protocol), items.numbers, inputs.frame(run, USERS)).persist()
    try:
        return protocol | {"users": users.count()} | _figures(run, options, names, items, users, scratch)
    finally:
        users.unpersist()


def _figures(
    run: Run, options: ComparisonOptions, names: Sequence[str], items: Items, users: DataFrame, scratch: str
) -> Report:
    fitter = ScorerFitter(run, items, users, FIT, f"{scratch}/valid")
    statistics_uri = fitter.write_statistics()
    tuned = _tune(run, users, fitter, names, _spec(options, items, statistics_uri, test=False))
    if options.refit:
        fitter = ScorerFitter(run, items, users, VALID, f"{scratch}/test", fitter)
        statistics_uri = fitter.write_statistics()
    with run.progress.step("fit the chosen settings"):
        chosen = [fitter.candidate(name, setting) for name, (setting, _) in tuned.items()]
    with run.progress.step("test"):
        totals = _evaluate(users, chosen, _spec(options, items, statistics_uri, test=True))
    ranked_seen = totals.pop(RANKED_SEEN, [])
    if not any(total.users for total in totals[REPEATS]):  # then both conventions have the same figures
        ranked_seen = []
    return {
        "metrics": {
            one.scorer: metrics_of(total, options.metrics_k) for one, total in zip(chosen, totals["all"], strict=True)
        },
        "slices": {
            name: {
                one.scorer: slice_metrics(total, options.metrics_k) for one, total in zip(chosen, parts, strict=True)
            }
            for name, parts in totals.items()
            if name != "all"
        },
        "seen_targets_ranked": {
            one.scorer: slice_metrics(total, options.metrics_k)
            for one, total in zip(chosen, ranked_seen, strict=bool(ranked_seen))
        },
        "group_gaps": gaps(totals, [one.scorer for one in chosen], options.metrics_k),
        "chosen": {name: setting for name, (setting, _) in tuned.items()},
        "validation": {name: validation_metrics(means, options.metrics_k) for name, (_, means) in tuned.items()},
    }


def _tune(
    run: Run, users: DataFrame, fitter: ScorerFitter, names: Sequence[str], spec: EvaluationSpec
) -> dict[str, tuple[Setting, Any]]:
    """The best setting of each scorer on validation and its means, round by round of ``GRIDS``."""
    tuned: dict[str, tuple[Setting, Any]] = {name: (first_setting(name), None) for name in names}
    for number in range(max(len(GRIDS[name]) for name in names)):
        with run.progress.step(f"tune on validation, round {number + 1}"):
            candidates = [
                fitter.candidate(name, tuned[name][0] | option)
                for name in names
                if number < len(GRIDS[name])
                for option in GRIDS[name][number]
            ]
            totals = _evaluate(users, candidates, spec)["all"]
        for name in {one.scorer for one in candidates}:
            results = [
                (one.setting, total.means[0])
                for one, total in zip(candidates, totals, strict=True)
                if one.scorer == name
            ]
            tuned[name] = max(results, key=lambda result: objective(result[1]))
    return tuned


def _spec(options: ComparisonOptions, items: Items, statistics_uri: str, *, test: bool) -> EvaluationSpec:
    return EvaluationSpec(
        test=test,
        mask_seen=options.mask_seen,
        seen_targets=options.seen_targets,
        k=options.metrics_k,
        items=len(items.ids),
        statistics_uri=statistics_uri,
        replicates=options.replicates if test else 0,
        seed=options.seed,
    )


def _evaluate(users: DataFrame, candidates: Sequence[Candidate], spec: EvaluationSpec) -> dict[str, list[Any]]:
    """The sums of each candidate by slice.

    Raises:
        InputError: no user can be evaluated.
    """
    rows = users.mapInArrow(candidate_sums(candidates, spec), SUMS_DDL).collect()  # tasks × candidates × slices
    totals = merge_totals(rows, spec)
    if not any(total.users for (_, name), total in totals.items() if name == "all"):
        part = "the test" if spec.test else "validation"
        raise InputError(
            f"no user has both a history and a relevant item in {part} under this protocol: add events, or choose "
            "another protocol or other days"
        )
    names = sorted({name for _, name in totals})
    return {name: [totals[number, name] for number in range(len(candidates))] for name in names}
