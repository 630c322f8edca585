"""Two ways timed side by side: what both benchmarks do."""

import sys
import time
from collections.abc import Callable
from statistics import median


def paired(
    peer: str, run_peer: Callable[[], object], name: str, run: Callable[[], object], pairs: int, share: float = 1.0
) -> tuple[float, float]:
    """(median seconds of ``run``, median of peer's seconds × ``share`` / its own), both warm, taking turns."""
    run_peer(), run()
    times = []
    for number in range(pairs):
        first = (run_peer, run) if number % 2 else (run, run_peer)
        taken = {each: timed(each) for each in first}
        times.append((taken[run_peer] * share, taken[run]))
        print(f"{peer} {times[-1][0]:.2f} s, {name} {times[-1][1]:.2f} s", file=sys.stderr)
    return median(mine for _, mine in times), round(median(theirs / mine for theirs, mine in times), 3)


def timed(run: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
