"""How a job ends when SIGTERM meets PySpark in the middle of a call."""

import pytest

from recsys_spark.errors import Terminated
from recsys_spark.runtime.config import JobConfig
from recsys_spark.runtime.lifecycle import Job, attempt


def _terminated_in_a_call(run, options):
    try:
        raise Terminated
    finally:
        [].clear(1)  # as PySpark's clean-up fails on a connection that was cut


def _broken(run, options):
    raise TypeError("a bug")


@pytest.mark.parametrize(("step", "code"), [(_terminated_in_a_call, 143), (_broken, 1)])
def test_an_error_of_the_clean_up_does_not_hide_that_a_job_was_stopped(tmp_path, step, code):
    job = Job(str(tmp_path / "demo.py"), "A demo.", JobConfig, step)
    report, ended = attempt(job, [f"--lake={tmp_path / 'lake'}"])
    assert (ended, report["exit_code"], report["status"]) == (code, code, "failed")
