"""Compare scorers under a protocol: fit them, tune them on validation, evaluate them on the test."""

from collections.abc import Sequence
from datetime import date
from typing import Any, Literal
from uuid import uuid4

from pyarrow.fs import FileSystem, FileType
from pydantic import Field, field_validator
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.encode.options import EncoderOptions
from recsys_spark.encode.steps.embed_texts import embed_texts
from recsys_spark.encode.steps.model_source import resolve_model
from recsys_spark.errors import InputError, UsageError
from recsys_spark.evaluate.comparison import (
    RANKED_SEEN,
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
)
from recsys_spark.evaluate.protocols import FIT, VALID, Protocol, newest_events, user_rows, with_roles
from recsys_spark.evaluate.steps.fitted_scorers import Items, ScorerFitter, read_items
from recsys_spark.evaluate.steps.rating_errors import rating_errors
from recsys_spark.evaluate.steps.search_grids import DEFAULT_GRIDS, GRIDS, Setting, drop_infeasible, first_setting
from recsys_spark.evaluate.terminal_tables import show_comparison
from recsys_spark.events.options import EventOptions
from recsys_spark.events.steps.check_event_types import check_event_types
from recsys_spark.ingest.options import IngestOptions
from recsys_spark.ingest.steps.ingest_tables import ingest_tables
from recsys_spark.publish.steps.publishing import Report, pin_inputs
from recsys_spark.runtime.config import formerly
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.run_date import events_before
from recsys_spark.tables.schemas import EMBEDDINGS, EVENTS, ITEMS, USERS


class ComparisonOptions(IngestOptions, EncoderOptions, EventOptions):
    """The data set, the protocol and the scorers of a comparison."""

    lake: str = Field(
        "lake/evaluation", description="lake for the tables of the data set; the next run reuses its embeddings"
    )
    run_date: date = Field(date(2100, 1, 1), description="use events before this day, YYYY-MM-DD")
    protocol: Literal["leave_one_out", "temporal", "cold_items", "new_users"] = Field(
        "leave_one_out", description="split of the events (evaluate/README, Protocols)"
    )
    scorers: str = Field(
        ",".join(DEFAULT_GRIDS),
        description="scorers to compare, separated by commas; also available: "
        + ", ".join(sorted(set(GRIDS) - set(DEFAULT_GRIDS))),
    )
    metrics_k: int = Field(
        10,
        ge=1,
        description="cut-off k of the metrics: only the first k positions of a list count",
        json_schema_extra=formerly("at"),
    )
    refit: bool = Field(True, description="fit again before the test, with the validation events too")
    mask_seen: bool = Field(True, description="leave items of a user's history out of the ranking")
    seen_targets: Literal["miss", "rank"] = Field(
        "miss",
        description="with mask_seen, a later event about an item of the history: miss counts it as not found, as in "
        "lists that never show it again; rank leaves it among the candidates, as many papers do",
    )
    valid_from: date | None = Field(
        None, description="temporal: first day of validation; default: 80 % quantile of the days of the events"
    )
    test_from: date | None = Field(
        None, description="temporal: first day of the test; default: 90 % quantile of the days of the events"
    )
    max_history: int = Field(1000, ge=1, description="use the N most recent events of each user")
    shuffle_ties: int | None = Field(
        None,
        description="seed that orders events of a user at the same time by a hash; default: by item id, which may be "
        "an order that scorers learn",
    )
    replicates: int = Field(200, ge=2, description="bootstrap replicates of the users, for 95 % intervals")
    seed: int = Field(
        0,
        description="random seed of the bootstrap, of protocols that sample items or users, and of the sample of test "
        "ratings",
    )

    @field_validator("scorers")
    @classmethod
    def _check_scorers(cls, names: str) -> str:
        if unknown := sorted(set(names.split(",")) - set(GRIDS)):
            raise ValueError(f"unknown scorer: {', '.join(unknown)}; the scorers are {', '.join(GRIDS)}")
        return names


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
        protocol, positive = _split(events, options)
        roles = with_roles(newest_events(positive, options.max_history, options.shuffle_ties), protocol)
        users = user_rows(roles, items.numbers, inputs.frame(run, USERS)).persist()
        user_count = users.count()
    names, warnings = drop_infeasible(options.scorers, len(items.ids), mask_seen=options.mask_seen)
    scratch = f"{run.lake.uri}/_blocks/comparison/{uuid4().hex}"
    try:
        report = _compare(run, options, names, items, users, scratch)
        with run.progress.step("ratings"):
            report |= {"ratings": rating_errors(events, items.ids, items.vectors, options.seed)}
    finally:
        filesystem, path = FileSystem.from_uri(scratch)
        if filesystem.get_file_info(path).type == FileType.Directory:
            filesystem.delete_dir(path)
        users.unpersist()
    warnings += warnings_of(report["metrics"], options.metrics_k)
    show_comparison(report, options.metrics_k, warnings)
    conditions: Report = {"protocol": options.protocol, "mask_seen": options.mask_seen, "refit": options.refit}
    if options.mask_seen:
        conditions |= {"seen_targets": options.seen_targets}
    if protocol.valid_from and protocol.test_from:
        conditions |= {"valid_from": str(protocol.valid_from), "test_from": str(protocol.test_from)}
    report |= {"users": user_count, "items": tables[ITEMS.name], "texts": items.text_quality, "warnings": warnings}
    return conditions | report | {"tables": {}}


def _compare(
    run: Run, options: ComparisonOptions, names: Sequence[str], items: Items, users: DataFrame, scratch: str
) -> Report:
    fitter = ScorerFitter(run, items, users, FIT, f"{scratch}/valid")
    statistics_uri = fitter.write_statistics()
    tuned = _tune(run, users, fitter, names, _spec(options, items, statistics_uri, test=False))
    if options.refit:
        fitter = ScorerFitter(run, items, users, VALID, f"{scratch}/test")
        statistics_uri = fitter.write_statistics()
    with run.progress.step("fit the chosen settings"):
        chosen = [fitter.candidate(name, setting) for name, (setting, _) in tuned.items()]
    with run.progress.step("test"):
        totals = _evaluate(users, chosen, _spec(options, items, statistics_uri, test=True))
    ranked_seen = totals.pop(RANKED_SEEN, [])
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


def _split(events: DataFrame, options: ComparisonOptions) -> tuple[Protocol, DataFrame]:
    """The protocol with its days, and the events of positive weight, each with weight 1."""
    weights = F.create_map(*(F.lit(x) for pair in sorted(options.event_weights.items()) for x in pair))
    weight = F.signum(F.coalesce(F.try_element_at(weights, F.col("event_type")), F.lit(0.0))).alias("weight")
    positive = events.select("user_id", "item_id", "timestamp", weight).where("weight > 0")
    days = positive.agg(F.percentile_approx(F.unix_date(F.to_date("timestamp")), [0.8, 0.9])).collect()[0][0]
    if days is None:
        raise InputError(
            f"no event before {options.run_date} has a weight above 0: choose another run_date or other event_weights"
        )
    if options.protocol != "temporal":
        return Protocol(options.protocol, options.seed), positive
    valid, test = (date.fromordinal(719163 + day) for day in days)
    first, second = options.valid_from or valid, options.test_from or test
    if first >= second:
        raise UsageError(f"valid_from ({first}) must be before test_from ({second}): set both days")
    return Protocol(options.protocol, options.seed, first, second), positive


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
    if not totals:
        raise InputError(
            "no user has both a history and a relevant item under this protocol: add events or choose another protocol"
        )
    names = sorted({name for _, name in totals})
    return {name: [totals[number, name] for number in range(len(candidates))] for name in names}
