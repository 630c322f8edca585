"""Progress of a job: on a terminal a live line with task counts and the remaining time; elsewhere one line per step,
and one per minute within long steps."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pyspark.sql import SparkSession
from rich.console import Console
from rich.markup import escape

_QUIET_SECONDS = 60.0


class Progress:
    """Writes to standard error only: standard output is for results."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._session: SparkSession | None = None
        self._stage_since: dict[int, float] = {}
        self.steps: list[tuple[str, int, int]] = []
        """Title, start and end of the steps that ended, nanoseconds since 1970. No row depends on them."""
        self._text = ""

    def watch(self, session: SparkSession) -> None:
        """Count the tasks of this session."""
        self._session = session

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show ``title`` while the block runs, then its duration."""
        started = time.monotonic()
        if sys.stderr.isatty():
            with (
                self._console.status(escape(title)) as status,
                self._followed(title, lambda text: status.update(escape(text)), 0.3),
            ):
                yield
        else:
            with self._followed(title, self.note, _QUIET_SECONDS):
                yield
        self._console.print(f"  [green]✓[/] {escape(title)} [dim]{time.monotonic() - started:.1f} s[/]")

    def note(self, text: str) -> None:
        """Print a line about a running step."""
        self._console.print(f"    [dim]{escape(text)}[/]", soft_wrap=True)

    def say(self, text: str) -> None:
        """Set the text of the live line while the driver works by itself, without Spark tasks."""
        self._text = text

    @contextmanager
    def _followed(self, title: str, show: Callable[[str], None], seconds: float) -> Iterator[None]:
        done, since = threading.Event(), time.time_ns()

        def follow() -> None:
            while not done.wait(seconds):
                show(f"{title} {self._tasks()}")

        watcher = threading.Thread(target=follow, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            self.steps.append((title, since, time.time_ns()))
            self._text = ""

    def _tasks(self) -> str:
        if self._text:
            return self._text
        if self._session is None:
            return "starting Spark"
        tracker = self._session.sparkContext.statusTracker()
        stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
        finished, total = sum(s.numCompletedTasks for s in stages if s), sum(s.numTasks for s in stages if s)
        now = time.monotonic()
        since = min((self._stage_since.setdefault(s.stageId, now) for s in stages if s), default=now)
        return tasks_and_time(finished, total, now - since)


def tasks_and_time(finished: int, total: int, seconds: float) -> str:
    """``12/62 tasks, about 3 min left``: the remaining time at the pace so far, if it is at least 5 seconds."""
    if not total:
        return ""
    left = seconds * (total - finished) / finished if finished else 0.0
    time_left = f", about {left / 60:.0f} min left" if left >= 90 else f", about {left:.0f} s left" if left >= 5 else ""
    return f"{finished}/{total} tasks{time_left}"
