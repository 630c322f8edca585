"""Run jobs in the process and the Spark session of the tests: what spark-submit.sh runs, without a JVM of its own."""

import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from io import StringIO

from pyspark.sql import SparkSession

from recsys_spark.errors.redaction import redacted_report
from recsys_spark.runtime import lifecycle
from tests.conftest import ROOT


def run_job(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The job from its command line to its last line, status files and exit code. Needs the fixture ``spark``."""
    job = import_module(f"jobs.{name}").JOB
    out, error = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(error):
        report, code = lifecycle.attempt(job, list(arguments))
        print(json.dumps(redacted_report(report), ensure_ascii=False, default=str))
    return subprocess.CompletedProcess([name, *arguments], code, out.getvalue(), error.getvalue())


def run_driver(
    session: SparkSession, name: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The job in a Python driver of its own, which may be killed: it uses the JVM of ``session``, which stays."""
    gateway = session.sparkContext._gateway.gateway_parameters
    known = {"PYSPARK_GATEWAY_PORT": str(gateway.port), "PYSPARK_GATEWAY_SECRET": gateway.auth_token}
    command = [sys.executable, "-m", "tests.bench.jobs_here", name, *arguments]
    where = os.environ | known | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(command, env=where, capture_output=True, text=True, check=False)


def _join_session() -> None:
    """Make the session of the JVM that the environment names the one of this process."""
    from pyspark import SparkConf, SparkContext
    from pyspark.java_gateway import launch_gateway

    gateway = launch_gateway()
    context = gateway.jvm.JavaSparkContext(gateway.jvm.org.apache.spark.SparkContext.getOrCreate())
    SparkContext(gateway=gateway, jsc=context, conf=SparkConf(_jconf=context.getConf()))
    lifecycle._stop_session = lambda: None  # the tests go on with it


if __name__ == "__main__":
    _join_session()
    asked = sys.argv.pop(1)
    lifecycle.main(import_module(f"jobs.{asked}").JOB)
