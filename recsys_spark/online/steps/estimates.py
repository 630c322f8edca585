"""Estimates → rows of online_metrics, the report and the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import functions as F

from recsys_spark.lake.provenance import Outcome
from recsys_spark.online.kernels.off_policy import Estimate
from recsys_spark.online.options import OnlineOptions
from recsys_spark.online.terminal_tables import show_estimates
from recsys_spark.publish.steps.publishing import Report, run_key
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import ONLINE_METRICS

_DIGITS = 10
"""Significant digits that are stored: sums of doubles differ in the last ones with the order of partitions."""


@dataclass(frozen=True)
class Metric:
    """An estimate by name; ``users`` it is made of, and the effective sample size of weighted rows."""

    name: str
    estimate: Estimate
    users: int
    ess: float | None = None


@dataclass(frozen=True)
class Measured:
    """What a mode has measured: metrics, further figures by name, and warnings in sentences."""

    metrics: Sequence[Metric]
    figures: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()


def evaluation_key(options: OnlineOptions, inputs: Mapping[str, Any]) -> str:
    """The run key of an evaluation of these inputs: content ids of tables, entries of files."""
    settings = options.model_dump(mode="json", exclude={"lake", "dry_run", "preset"})
    return run_key("evaluate_online", {"inputs": dict(inputs), "options": settings})


def evaluated(run: Run, key: str) -> Report | None:
    """The report of a dry run, or of the same evaluation, if it was published before; None if there is work to do."""
    if run.dry_run:
        return {"tables": {}}
    if not run.lake.has_commit(ONLINE_METRICS, key):
        return None
    figures = dict(run.lake.outcome_of(ONLINE_METRICS, key).figures or {})
    show_estimates(figures)
    return {"status": "unchanged", "tables": {ONLINE_METRICS.name: 0}} | figures


def publish(run: Run, options: OnlineOptions, key: str, measured: Measured) -> Report:
    """Append the metrics to table ``online_metrics`` and print them."""
    figures = report_of(options, measured)
    last = run.lake.last_commit(ONLINE_METRICS)
    stored = run.lake.read_or_empty(run.spark, ONLINE_METRICS)
    number = stored.agg(F.coalesce(F.max("evaluation"), F.lit(0))).collect()[0][0] + 1
    rows = [
        (
            options.run_date, options.mode, one.name, rounded(one.estimate.value), rounded(one.estimate.low),
            rounded(one.estimate.high), options.level, one.users, rounded(one.ess), number,
        )
        for one in measured.metrics
    ]  # fmt: skip
    frame = run.spark.createDataFrame(rows, ONLINE_METRICS.ddl).coalesce(1)
    staged = run.lake.stage(frame, ONLINE_METRICS, base=None if last is None else last.version)
    run.lake.commit(staged, key, append=True, exclusive=True, outcome=Outcome(figures=figures))
    show_estimates(figures)
    return {"status": "done", "tables": {ONLINE_METRICS.name: len(rows)}} | figures


def report_of(options: OnlineOptions, measured: Measured) -> Report:
    """The figures of the report, rounded."""
    metrics = {
        one.name: {
            "estimate": rounded(one.estimate.value),
            "low": rounded(one.estimate.low),
            "high": rounded(one.estimate.high),
            "users": one.users,
        }
        | ({} if one.ess is None else {"ess": rounded(one.ess)})
        for one in measured.metrics
    }
    figures = {name: rounded(value) for name, value in measured.figures.items()}
    return {"mode": options.mode, "level": options.level, "metrics": metrics, **figures} | {
        "warnings": list(measured.warnings)
    }


def rounded(value: Any) -> Any:
    """A float with ``_DIGITS`` significant digits, also within a mapping or a list; other values as they are."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, Mapping):
        return {name: rounded(part) for name, part in value.items()}
    return [rounded(part) for part in value] if isinstance(value, (list, tuple)) else value
