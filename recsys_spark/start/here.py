"""Jobs in the Spark session that is there: in a notebook, and where a scheduler calls the command in its process."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_spark.errors import RecsysError
from recsys_spark.start.jobs import job_script
from recsys_spark.start.package_zip import package_zip
from recsys_spark.start.submission import ALWAYS, check, parse, session_environment

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from recsys_spark.runtime.lifecycle import Job, Run

_SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "parquet.page.verify-checksum.enabled": "true",
}
"""What rows depend on, of the settings that every profile has and a session takes while it runs."""


def run_job(name: str, **keys: Any) -> dict[str, Any]:
    """Run a job in the session that is there and return its report, the last line of the command.

    Without a session, one is started as the command would do it, and stays. A session keeps its own settings, except
    for the time of the job.

    Args:
        name: of the job, as ``refresh_lake``.
        keys: as on the command line, ``run_date="2024-03-01"``; weights may be a dict.

    Raises:
        UsageError: there is no such job or key, or a value is wrong.
        QualityError, InputError, ConflictError, RetryError: as the command, which exits with 3, 4, 5 and 75.
        RecsysError: a bug of the job; its trace is on standard error.
    """
    from recsys_spark.errors.redaction import redacted_report

    script = job_script(name)
    arguments = [f"--{key}={_as_text(value)}" for key, value in keys.items() if value is not None]
    if not session_is_there():
        submission = parse(script, arguments, os.environ)
        check(submission, os.environ)
        if submission.needs_spark:
            os.environ.update(session_environment(submission, os.environ))
    report, code = _attempted(script, arguments)
    if code:
        kinds = {kind.exit_code: kind for kind in RecsysError.__subclasses__()}
        raise kinds.get(code, RecsysError)(report["error"], report)
    return redacted_report(report)


def run_in_session(script: Path, arguments: Sequence[str]) -> int:
    """Run a job as its command line does, down to its last line; the session stays. Returns the exit code."""
    from recsys_spark.errors.redaction import redacted_report
    from recsys_spark.runtime.help import help_text

    if {"-h", "--help"} & set(arguments):
        job = _job_of(script)
        print(help_text(job.options, job.name, job.description))
        return 0
    report, code = _attempted(script, arguments)
    print(json.dumps(redacted_report(report), ensure_ascii=False, default=str), flush=True)
    return code


def session_is_there() -> bool:
    """Whether this process has a session, or was started by a spark-submit, whose JVM has one to give."""
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        return True
    sql = sys.modules.get("pyspark.sql")
    return sql is not None and sql.SparkSession.getActiveSession() is not None


def _attempted(script: Path, arguments: Sequence[str]) -> tuple[dict[str, Any], int]:
    from pyspark.sql import SparkSession

    from recsys_spark.runtime.lifecycle import attempt, silence_traces
    from recsys_spark.runtime.task import over_connect

    silence_traces()
    for variable, value in ALWAYS.items():
        os.environ.setdefault(variable, value)
    session = SparkSession.getActiveSession()
    if session is None and "PYSPARK_GATEWAY_PORT" in os.environ:
        session = SparkSession.builder.getOrCreate()
    if session is None:
        return attempt(_job_of(script), arguments)
    if over_connect(session):
        job = _job_of(script)
        return attempt(job if job.without_spark else replace(job, step=_at_once), arguments)
    with _settings_of_jobs(session):
        _ship(session)
        return attempt(_job_of(script), arguments)


def _at_once(run: "Run", config: Any) -> dict[str, Any]:
    """Take the session before anything is read: one that jobs cannot use is refused."""
    return {"session": run.spark}


def _job_of(script: Path) -> "Job[Any]":
    spec = spec_from_file_location(f"recsys_spark_job_{script.stem}", script)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.JOB


@contextmanager
def _settings_of_jobs(session: "SparkSession") -> Iterator[None]:
    before = {name: session.conf.get(name, None) for name in _SETTINGS}
    for name, value in _SETTINGS.items():
        session.conf.set(name, value)
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                session.conf.unset(name)
            else:
                session.conf.set(name, old)


def _ship(session: "SparkSession") -> None:
    """Send this package to the executors of a cluster; those of a local session have it."""
    if not (session.sparkContext.master or "").startswith("local"):
        session.sparkContext.addPyFile(str(package_zip()))


def _as_text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool | dict) else str(value)
