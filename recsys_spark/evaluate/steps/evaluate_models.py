"""Scorers under a protocol: fitted, tuned on validation, asked for the test."""

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
from recsys_spark.evaluate.comparison import SUMS_DDL, Candidate, EvaluationSpec, compared, merged
from recsys_spark.evaluate.comparison_summary import gaps, in_short, judged, metrics_of, on_validation, warnings_of
from recsys_spark.evaluate.protocols import FIT, VALID, Protocol, newest_events, user_rows, with_roles
from recsys_spark.evaluate.steps.fitted_scorers import Items, ScorerFitter, read_items
from recsys_spark.evaluate.steps.rating_errors import rating_errors
from recsys_spark.evaluate.steps.search_grids import DEFAULT_GRIDS, PLANS, Setting, drop_infeasible, first_setting
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
    """A data set, a protocol and what is compared."""

    lake: str = Field("lake/evaluation", description="lake for the data set; embeddings stay for the next run")
    run_date: date = Field(date(2100, 1, 1), description="events before it are known, YYYY-MM-DD")
    protocol: Literal["leave_one_out", "temporal", "cold_items", "new_users"] = Field(
        "leave_one_out", description="how events are split; evaluate/README, Protocols"
    )
    scorers: str = Field(
        ",".join(DEFAULT_GRIDS),
        description=f"what is compared, separated by commas; also {', '.join(sorted(set(PLANS) - set(DEFAULT_GRIDS)))}",
    )
    metrics_k: int = Field(
        10, ge=1, description="k of the metrics: list positions that count", json_schema_extra=formerly("at")
    )
    refit: bool = Field(True, description="fit on the validation events too before the test")
    mask_seen: bool = Field(True, description="items of a user's history are no candidates")
    valid_from: date | None = Field(None, description="temporal: first day of validation; default: at 80 % of events")
    test_from: date | None = Field(None, description="temporal: first day of the test; default: at 90 % of events")
    max_history: int = Field(1000, ge=1, description="the newest events of a user that count")
    replicates: int = Field(200, ge=2, description="bootstrap samples of users, for intervals of 95 %")
    seed: int = Field(0, description="of the bootstrap, and of protocols that draw items or users")

    @field_validator("scorers")
    @classmethod
    def _known(cls, names: str) -> str:
        if unknown := sorted(set(names.split(",")) - set(PLANS)):
            raise ValueError(f"unknown: {', '.join(unknown)}; there are {', '.join(PLANS)}")
        return names


def evaluate_models(run: Run, options: ComparisonOptions) -> Report:
    """Ingest and embed where that is new, compare, show a table; returns metrics by scorer."""
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
        protocol, counted = _split(events, options)
        roles = with_roles(newest_events(counted, options.max_history), protocol)
        users = user_rows(roles, items.numbers, inputs.frame(run, USERS)).persist()
        asked = users.count()
    names, left_out = drop_infeasible(options.scorers, len(items.ids))
    scratch = f"{run.lake.uri}/_blocks/comparison/{uuid4().hex}"
    try:
        found = _compare(run, options, names, items, users, scratch)
        with run.progress.step("ratings"):
            found |= {"ratings": rating_errors(events, items.ids, items.vectors, options.seed)}
    finally:
        filesystem, path = FileSystem.from_uri(scratch)
        if filesystem.get_file_info(path).type == FileType.Directory:
            filesystem.delete_dir(path)
        users.unpersist()
    warnings = left_out + warnings_of(found["metrics"], options.metrics_k)
    show_comparison(found, options.metrics_k, warnings)
    about: Report = {"protocol": options.protocol, "mask_seen": options.mask_seen, "refit": options.refit}
    if protocol.valid_from and protocol.test_from:
        about |= {"valid_from": str(protocol.valid_from), "test_from": str(protocol.test_from)}
    found |= {"users": asked, "items": tables[ITEMS.name], "texts": items.text_quality, "warnings": warnings}
    return about | found | {"tables": {}}


def _compare(
    run: Run, options: ComparisonOptions, names: Sequence[str], items: Items, users: DataFrame, scratch: str
) -> Report:
    fits = ScorerFitter(run, items, users, FIT, f"{scratch}/valid")
    facts = fits.keep_facts()
    tuned = _tuned(run, users, fits, names, _question(options, items, facts, test=False))
    if options.refit:
        fits = ScorerFitter(run, items, users, VALID, f"{scratch}/test")
        facts = fits.keep_facts()
    with run.progress.step("fit the chosen settings"):
        chosen = [fits.contestant(name, setting) for name, (setting, _) in tuned.items()]
    with run.progress.step("test"):
        totals = _asked(users, chosen, _question(options, items, facts, test=True))
    return {
        "metrics": {
            one.scorer: metrics_of(total, options.metrics_k) for one, total in zip(chosen, totals["all"], strict=True)
        },
        "slices": {
            name: {one.scorer: in_short(total, options.metrics_k) for one, total in zip(chosen, parts, strict=True)}
            for name, parts in totals.items()
            if name != "all"
        },
        "group_gaps": gaps(totals, [one.scorer for one in chosen], options.metrics_k),
        "chosen": {name: setting for name, (setting, _) in tuned.items()},
        "validation": {name: on_validation(means, options.metrics_k) for name, (_, means) in tuned.items()},
    }


def _tuned(
    run: Run, users: DataFrame, fits: ScorerFitter, names: Sequence[str], question: EvaluationSpec
) -> dict[str, tuple[Setting, Any]]:
    """The best setting of each scorer on validation, and its means, by the plans of ``contestants``."""
    tuned: dict[str, tuple[Setting, Any]] = {name: (first_setting(name), None) for name in names}
    for number in range(max(len(PLANS[name]) for name in names)):
        with run.progress.step(f"tune on validation, round {number + 1}"):
            tried = [
                fits.contestant(name, tuned[name][0] | option)
                for name in names
                for option in (PLANS[name][number : number + 1] or [[]])[0]
            ]
            totals = _asked(users, tried, question)["all"]
        for name in {one.scorer for one in tried}:
            found = [
                (one.setting, total.means[0]) for one, total in zip(tried, totals, strict=True) if one.scorer == name
            ]
            tuned[name] = max(found, key=lambda pair: judged(pair[1]))
    return tuned


def _split(events: DataFrame, options: ComparisonOptions) -> tuple[Protocol, DataFrame]:
    """The protocol with its days, and the events that count: what a user wanted, each one as much as any other."""
    kinds = F.create_map(*(F.lit(x) for pair in sorted(options.event_weights.items()) for x in pair))
    weight = F.signum(F.coalesce(F.try_element_at(kinds, F.col("event_type")), F.lit(0.0))).alias("weight")
    counted = events.select("user_id", "item_id", "timestamp", weight).where("weight > 0")
    days = counted.agg(F.percentile_approx(F.unix_date(F.to_date("timestamp")), [0.8, 0.9])).collect()[0][0]
    if days is None:
        raise InputError(
            f"no event before {options.run_date} has a weight above 0: another run_date, or other event_weights"
        )
    if options.protocol != "temporal":
        return Protocol(options.protocol, options.seed), counted
    valid, test = (date.fromordinal(719163 + day) for day in days)
    first, second = options.valid_from or valid, options.test_from or test
    if first >= second:
        raise UsageError(f"valid_from ({first}) must lie before test_from ({second}): name both days")
    return Protocol(options.protocol, options.seed, first, second), counted


def _question(options: ComparisonOptions, items: Items, facts: str, *, test: bool) -> EvaluationSpec:
    replicates = options.replicates if test else 0
    return EvaluationSpec(test, options.mask_seen, options.metrics_k, len(items.ids), facts, replicates, options.seed)


def _asked(users: DataFrame, contestants: Sequence[Candidate], question: EvaluationSpec) -> dict[str, list[Any]]:
    """Sums of each contestant by slice."""
    rows = users.mapInArrow(compared(contestants, question), SUMS_DDL).collect()  # tasks × contestants × slices
    totals = merged(rows, question)
    if not totals:
        raise InputError(
            "no user has both a history and something right under this protocol: more events, or another protocol"
        )
    names = sorted({name for _, name in totals})
    return {name: [totals[number, name] for number in range(len(contestants))] for name in names}
