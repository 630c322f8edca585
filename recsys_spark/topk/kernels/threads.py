"""Compiled loops, which do not hold the interpreter's lock, in the threads of a task."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

Result = TypeVar("Result")


def in_threads(threads: int, count: int, run: Callable[[int, int], Result]) -> list[Result]:
    """Run ``run(start, stop)`` for as many parts of ``range(count)`` as there are threads; results in their order."""
    if threads == 1:
        return [run(0, count)]
    borders = [count * number // threads for number in range(threads + 1)]
    return list(_pool(threads).map(run, borders[:-1], borders[1:]))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)
