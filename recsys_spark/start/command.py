"""The command ``recsys-spark JOB …``. spark-submit.sh ends in it too, after its set-up."""

import os
import sys
from collections.abc import Sequence

from recsys_spark.errors import RecsysError, UsageError
from recsys_spark.runtime.places import command
from recsys_spark.start.here import run_in_session, session_is_there
from recsys_spark.start.jobs import first_line, job_script, job_scripts
from recsys_spark.start.submission import check, command_and_environment, parse

_USAGE = """\
Usage: {command} JOB [--key=value ...] [-- SPARK-SUBMIT OPTIONS]
       {command} JOB --help        the keys of a job

Jobs:
{jobs}

Variables:
  SPARK_HOME      a Spark installation to use instead of the one that pip has installed
  SPARK_PROFILE   where to run: local (default), standalone, yarn, k8s, gpu, or the path of a properties file
  PYSPARK_PYTHON  the Python on the executors, if its path differs from the driver's

Exit codes: 0 done, 2 usage or configuration, 3 data-quality gate, 4 input missing or unreadable, 5 commit conflict,
75 try again, 143 stopped by SIGTERM, 1 a bug."""


def main() -> None:
    """Run the job that the command line names: in the session that is there, or in a process of its own.

    Returns only where the job ran in this process and succeeded.
    """
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print(usage(), file=sys.stdout if words else sys.stderr)
        sys.exit(0 if words else 2)
    try:
        code = start(words)
    except RecsysError as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    if code:  # a scheduler that calls this function takes any SystemExit for a failure
        sys.exit(code)


def start(words: Sequence[str]) -> int:
    """Run a job: its name, its arguments, and after ``--`` options of spark-submit. Return its exit code.

    Without a session this process becomes the job's, and the function does not return.

    Raises:
        UsageError: there is no such job or profile, or a requirement is missing.
    """
    submission = parse(job_script(words[0]), words[1:], os.environ)
    if session_is_there():
        if submission.options or submission.files or submission.py_files:
            raise UsageError("there is a Spark session already: options after -- have no effect on it")
        return run_in_session(submission.script, submission.arguments)
    check(submission, os.environ)
    program, environment = command_and_environment(submission, os.environ)
    return os.execve(program[0], program, environment)


def usage() -> str:
    """The text of ``--help``."""
    jobs = "\n".join(f"  {name:<26} {first_line(script)}" for name, script in job_scripts().items())
    return _USAGE.format(command=command(), jobs=jobs)
