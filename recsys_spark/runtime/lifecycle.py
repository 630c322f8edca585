"""Start and end of a job: configuration, session, progress, exit code, last JSON line."""

import json
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from pyarrow import ArrowException
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from recsys_spark.errors import RecsysError, Terminated, UsageError
from recsys_spark.errors.messages import to_user_error
from recsys_spark.errors.redaction import redacted, redacted_report
from recsys_spark.lake.lake import Lake
from recsys_spark.runtime.config import Configuration, JobConfig, load
from recsys_spark.runtime.help import help_text
from recsys_spark.runtime.observers import Observers
from recsys_spark.runtime.progress import Progress
from recsys_spark.runtime.task import over_connect

ConfigT = TypeVar("ConfigT", bound=Configuration)

_NOT_OVER_CONNECT = (
    "this session is one of Spark Connect, without the broadcasts, archives and resource profiles that jobs use: start "
    "the job with a classic session (on Databricks a cluster with dedicated access, not serverless)"
)

PERSONAL = "personal"
"""The key of a report under which personal data is."""


class Run:
    """One run of a job: its lake, its session (started at first use) and its progress display."""

    def __init__(self, job: str, lake: Lake | None, progress: Progress, *, dry_run: bool = False) -> None:
        self.job, self._lake, self.progress, self.dry_run = job, lake, progress, dry_run

    @property
    def lake(self) -> Lake:
        """The lake of a job whose configuration is a JobConfig."""
        assert self._lake is not None, f"{self.job} has no lake"
        return self._lake

    @property
    def spark(self) -> SparkSession:
        """The session that is there, or the one that spark-submit configured."""
        session = SparkSession.getActiveSession()
        if over_connect(session):
            raise UsageError(_NOT_OVER_CONNECT)
        if session is None:
            session = SparkSession.builder.appName(f"recsys-spark {self.job}").getOrCreate()
        self.progress.watch(session)
        return session

    @property
    def cores(self) -> int:
        """The number of task slots that Spark has."""
        return self.spark.sparkContext.defaultParallelism


@dataclass(frozen=True)
class Job(Generic[ConfigT]):
    """A job: a step and its configuration keys."""

    script: str
    """``__file__`` of the job's script, which has the job's name."""
    description: str
    """The script's ``__doc__``, for ``--help``."""
    options: type[ConfigT]
    step: Callable[[Run, ConfigT], dict[str, Any]]
    shows_own_steps: bool = False
    """Whether the step shows the progress of its parts; otherwise the job is one line."""
    without_spark: bool = False
    """Whether the job needs neither Java nor a cluster. The command reads it from the text of the script."""

    @property
    def name(self) -> str:
        return Path(self.script).stem

    def run(self, run: Run, config: ConfigT) -> dict[str, Any]:
        """Run the step and return its report."""
        with nullcontext() if self.shows_own_steps else run.progress.step(self.name):
            return self.step(run, config)


def main(job: Job[Any]) -> NoReturn:
    """Run a job from the command line. Every job's script ends with this call."""
    argv = sys.argv[1:]
    if "--help" in argv or "-h" in argv:
        print(help_text(job.options, job.name, job.description))
        sys.exit(0)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    silence_traces()
    signal.signal(signal.SIGTERM, _terminate)
    report, code = attempt(job, argv)
    print(json.dumps(redacted_report(report), ensure_ascii=False, default=str), flush=True)
    if code == Terminated.exit_code:  # stopping the session could hang: SIGTERM may have cut off a call to Spark
        sys.stderr.flush()
        os._exit(code)
    _stop_session()
    sys.exit(code)


def silence_traces() -> None:
    """Keep PySpark and Py4J from logging Java traces of exceptions, also of those that are handled."""
    for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        PySparkLogger.getLogger(name).setLevel(logging.CRITICAL + 1)
    logging.getLogger("py4j").setLevel(logging.CRITICAL + 1)


def attempt(job: Job[Any], argv: Sequence[str]) -> tuple[dict[str, Any], int]:
    """Run a job and return its report and exit code. Whatever stops it is on standard error and in the report."""
    started = time.monotonic()
    lake, run_date, dry_run = None, None, False
    report_head: dict[str, Any] = {"schema_version": 1, "job": job.name, "status": "failed", "run_date": None}
    observers = Observers(job.name)
    try:
        config = load(job.options, job.name, argv, _toml_of(job.script))
        lake, run_date = Lake(config.lake) if isinstance(config, JobConfig) else None, getattr(config, "run_date", None)
        dry_run = config.dry_run
        report_head["run_date"] = str(run_date) if run_date else None
        if lake is not None:
            report_head["lake"] = lake.uri
            lake.plain.check_writable()
        done = report_head | {"status": "done"}
        observers.start(config)
        report = done | job.run(Run(job.name, lake, observers.progress, dry_run=dry_run), config)
        report["status"] = "dry_run" if dry_run else report["status"]
        code = 0
    except Exception as error:
        report, code = _stopped(report_head) if _hides_termination(error) else _failure(report_head, error)
    except Terminated:
        report, code = _stopped(report_head)
    report["seconds"] = round(time.monotonic() - started, 1)
    observers.finish(report, personal=PERSONAL)
    if lake is not None and not dry_run:
        _write_status(lake, job.name, run_date, report)
    return report, code


def _terminate(number: int, frame: object) -> NoReturn:
    raise Terminated


def _hides_termination(error: BaseException) -> bool:
    """Whether an error came while SIGTERM was handled: the connection to the JVM, interrupted in an answer,
    makes PySpark's own clean-up fail."""
    context = error.__context__
    return context is not None and (isinstance(context, Terminated) or _hides_termination(context))


def _stopped(report_head: dict[str, Any]) -> tuple[dict[str, Any], int]:
    print("stopped by SIGTERM; run the same command again to do the rest", file=sys.stderr)
    code = Terminated.exit_code
    return report_head | {"exit_code": code, "error": "stopped by SIGTERM"}, code


def _failure(report_head: dict[str, Any], error: Exception) -> tuple[dict[str, Any], int]:
    user_error = error if isinstance(error, RecsysError) else to_user_error(error)
    if user_error is None:
        print(redacted(traceback.format_exc()), end="", file=sys.stderr)
        return report_head | {"exit_code": 1, "error": redacted(f"a bug: {type(error).__name__}: {error}")[:2000]}, 1
    message, code = redacted(str(user_error)), user_error.exit_code
    print(f"error: {message}", file=sys.stderr)
    return report_head | user_error.report | {"exit_code": code, "error": message}, code


def _write_status(lake: Lake, job: str, run_date: Any, report: dict[str, Any]) -> None:
    """Write the report next to the tables, without personal data.

    The last run that published has a file of its own, so that a run with nothing to do does not replace its figures.
    """
    status = redacted_report({key: value for key, value in report.items() if key != PERSONAL})
    name = str(run_date or "latest")
    try:
        lake.plain.write_status(job, name, status)
        if report["status"] == "done":
            lake.plain.write_status(job, f"{name}.done", status)
    except (OSError, ArrowException) as error:
        print(f"warning: the status of this run could not be written to the lake: {error}", file=sys.stderr)


def _toml_of(script: str) -> Path | None:
    """The job's TOML file: of the checkout, or in the working folder, where ``--files`` puts it on a cluster."""
    job = Path(script).resolve()
    paths = (job.parent.parent / "conf" / f"{job.stem}.toml", Path(f"{job.stem}.toml"))
    return next((path for path in paths if path.is_file()), None)


def _stop_session() -> None:
    session = SparkSession.getActiveSession()
    if session is not None:
        session.stop()
