"""What a scheduler does with the end of a job. Needs Python alone: neither Airflow nor this project."""

import json
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Literal

Action = Literal["done", "skip", "retry", "stop"]

RETRIED = {5: "another run committed to the same table", 75: "a transient fault", 143: "stopped by SIGTERM"}

STOPPED = {2: "usage or configuration", 3: "a data-quality gate, nothing is published", 4: "an input is missing"}


@dataclass(frozen=True)
class Outcome:
    """The end of a job, for a scheduler."""

    action: Action
    message: str
    report: dict[str, Any] = field(default_factory=dict)
    """The last line of the job; empty if it had none."""


def outcome(job: str, code: int, output: str) -> Outcome:
    """Read the exit code of a job and its standard output.

    A job that was killed (137, or a negative code) is retried: nothing is half published, and the same command does the
    rest. Exit code 3 is an alert with the place of the figures.
    """
    report = _last_line(output)
    error = report.get("error", "no message")
    if code == 0:
        unchanged = report.get("status") == "unchanged"
        return Outcome("skip" if unchanged else "done", f"{job}: {report.get('status', 'done')}", report)
    if code in RETRIED or code == 137 or code < 0:
        return Outcome("retry", f"{job} may succeed later ({RETRIED.get(code, 'killed')}): {error}", report)
    reason = STOPPED.get(code, f"exit code {code}")
    return Outcome("stop", f"{job} has stopped ({reason}): {error}. {places(job, report)}".rstrip(), report)


def places(job: str, report: dict[str, Any]) -> str:
    """Where the figures of the run and the page of the last report are, in words."""
    lake, run_date = report.get("lake"), report.get("run_date")
    if not lake or not run_date:
        return ""
    return f"Figures: {lake}/_status/{job}/{run_date}.json. Reports: {lake}/_reports/"


def post_alert(url: str, text: str) -> None:
    """Post ``{"text": …}``, which Slack, Mattermost and Teams take, to a webhook."""
    body = json.dumps({"text": text}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10):
        pass


def _last_line(output: str) -> dict[str, Any]:
    lines = output.strip().splitlines()
    try:
        report = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return report if isinstance(report, dict) else {}
