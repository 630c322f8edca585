"""Named points at which a test kills, stops or fails a run: ``RECSYS_FAULTS="commit.before:recommendations=kill"``.

A failpoint is ``NAME:TABLE``; ``*`` stands for any table. Without the variable nothing happens.
"""

import os
import signal
from threading import Timer

from recsys_spark.errors import RetryError

VARIABLE = "RECSYS_FAULTS"


def failpoint(name: str, table: str) -> None:
    """Inject the fault that the variable names for this point: ``kill`` (SIGKILL of this process), ``term`` (SIGTERM),
    ``term_later`` (SIGTERM while the next operation is running) or ``fail`` (raise RetryError)."""
    for fault in filter(None, os.environ.get(VARIABLE, "").split(",")):
        point, _, action = fault.partition("=")
        if point in (f"{name}:{table}", f"{name}:*"):
            if action == "fail":
                raise RetryError(f"{VARIABLE} asks for a failure at {name}:{table}")
            if action == "term_later":
                Timer(0.4, os.kill, (os.getpid(), signal.SIGTERM)).start()
                return
            os.kill(os.getpid(), {"kill": signal.SIGKILL, "term": signal.SIGTERM}[action])
