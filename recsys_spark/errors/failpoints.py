"""Named points at which a test kills, stops or fails a run: ``RECSYS_FAULTS="commit.before:recommendations=kill"``.

A point is ``PLACE:TABLE``; ``*`` stands for any table. Without the variable nothing happens.
"""

import os
import signal
from threading import Timer

from recsys_spark.errors import RetryError

VARIABLE = "RECSYS_FAULTS"


def failpoint(place: str, table: str) -> None:
    """What a test asked for here: ``kill`` (SIGKILL of this process), ``term`` (SIGTERM), ``term_later`` (SIGTERM once
    what comes next is at work) or ``fail`` (an error)."""
    for fault in filter(None, os.environ.get(VARIABLE, "").split(",")):
        point, _, what = fault.partition("=")
        if point in (f"{place}:{table}", f"{place}:*"):
            if what == "fail":
                raise RetryError(f"{VARIABLE} asks for a failure at {place}:{table}")
            if what == "term_later":
                Timer(0.4, os.kill, (os.getpid(), signal.SIGTERM)).start()
                return
            os.kill(os.getpid(), {"kill": signal.SIGKILL, "term": signal.SIGTERM}[what])
