"""What a person sees while a job works: on a terminal a live line with task counts, elsewhere one line per step."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pyspark.sql import SparkSession
from rich.console import Console


class Progress:
    """Writes to standard error only: standard output belongs to results."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._session: SparkSession | None = None

    def watch(self, session: SparkSession) -> None:
        """Count the tasks of this session from now on."""
        self._session = session

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show that ``title`` is being worked on, then how long it took."""
        started = time.monotonic()
        done = threading.Event()
        if sys.stderr.isatty():
            with self._console.status(title) as status:
                watcher = threading.Thread(target=self._follow, args=(title, status.update, done), daemon=True)
                watcher.start()
                try:
                    yield
                finally:
                    done.set()
                    watcher.join()
        else:
            yield
        self._console.print(f"  [green]✓[/] {title} [dim]{time.monotonic() - started:.1f} s[/]")

    def note(self, text: str) -> None:
        """Say how far a long step has come."""
        self._console.print(f"    [dim]{text}[/]")

    def _follow(self, title: str, update: Callable[[str], None], done: threading.Event) -> None:
        while not done.wait(0.3):
            update(f"{title} [dim]{self._tasks()}[/]")

    def _tasks(self) -> str:
        if self._session is None:
            return "starting Spark"
        tracker = self._session.sparkContext.statusTracker()
        stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
        finished, total = sum(s.numCompletedTasks for s in stages if s), sum(s.numTasks for s in stages if s)
        return f"{finished}/{total} tasks" if total else ""
