"""An export that goes on until it is stopped, for lists of a stream."""

from collections.abc import Callable
from time import monotonic, sleep

from recsys_spark.errors import RetryError
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.runtime.lifecycle import Run

_ATTEMPTS = 10
"""Exports in a row that find the target away, after which the job ends: somebody should look at it."""


def until_terminated(run: Run, seconds: float, export: Callable[[], Report]) -> Report:
    """Export, wait, and export again.

    Raises:
        RetryError: several exports in a row found the target away.
        Terminated: SIGTERM.
    """
    failed = 0
    while True:
        started = monotonic()
        try:
            report = export()
        except RetryError as error:
            failed += 1
            if failed == _ATTEMPTS:
                raise
            run.progress.note(f"{error}; next attempt in {seconds:g} s")
        else:
            failed = 0
            if report["status"] == "done":
                run.progress.note(_words(report, monotonic() - started))
        sleep(max(0.0, seconds - (monotonic() - started)))


def _words(report: Report, seconds: float) -> str:
    parts = [f"{name}: {one['written']:,} written" for name, one in report["exported"].items() if one["made"] != "none"]
    return f"{'; '.join(parts)}; {seconds:.1f} s"
