"""The figures of a run as a Prometheus text file, for the textfile collector of node_exporter."""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_STATUSES = ("done", "unchanged", "dry_run", "failed")


def write_metrics(path: str, report: Mapping[str, Any]) -> None:
    """Write the file in one step: a collector never reads half of it. A file that cannot be written is a warning."""
    target = Path(path)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        draft.write_text("".join(f"{line}\n" for line in metric_lines(report)), encoding="utf-8")
        draft.replace(target)
    except OSError as error:
        print(f"warning: the metrics of this run could not be written to {path}: {error}", file=sys.stderr)


def metric_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Gauges by job: status, exit code, seconds, rows of tables, and every number of the report by its name."""
    job = _label("job", report["job"])
    yield from _gauge("recsys_job_status", "1 for the status of the last run, else 0")
    for status in _STATUSES:
        yield f"recsys_job_status{{{job},{_label('status', status)}}} {int(report['status'] == status)}"
    yield from _gauge("recsys_job_exit_code", "exit code of the last run")
    yield f"recsys_job_exit_code{{{job}}} {report.get('exit_code', 0)}"
    yield from _gauge("recsys_job_seconds", "duration of the last run")
    yield f"recsys_job_seconds{{{job}}} {report['seconds']}"
    yield from _gauge("recsys_job_alerts", "number of figures outside their bounds in the last run")
    yield f"recsys_job_alerts{{{job}}} {len(report.get('alerts', []))}"
    tables = {name: rows for name, rows in (report.get("tables") or {}).items() if _is_number(rows)}
    if tables:
        yield from _gauge("recsys_table_rows", "rows of a table that the last run made or found")
    for name, rows in tables.items():
        yield f"recsys_table_rows{{{job},{_label('table', name)}}} {rows}"
    above = {"exit_code", "seconds", "schema_version"}
    figures = {name: value for name, value in report.items() if name not in above and _is_number(value)}
    if figures:
        yield from _gauge("recsys_job_figure", "a number of the report of the last run, by its name")
    for name, value in figures.items():
        yield f"recsys_job_figure{{{job},{_label('name', name)}}} {value}"


def _gauge(name: str, words: str) -> Iterator[str]:
    yield f"# HELP {name} {words}"
    yield f"# TYPE {name} gauge"


def _label(name: str, value: object) -> str:
    escaped = re.sub(r'(["\\])', r"\\\1", str(value)).replace("\n", r"\n")
    return f'{name}="{escaped}"'


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
