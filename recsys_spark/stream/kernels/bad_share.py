"""The share of bad rows among the last rows of a stream."""

from collections import deque

_WINDOW = 1_000
"""Rows that the share is taken over: earlier batches count while the later ones have fewer rows."""

_LEAST_BAD = 20
"""Fewer bad rows stop no stream: a batch is often a row or two."""


class BadShare:
    """Judges a batch together with the batches before it."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._batches: deque[tuple[int, int]] = deque()

    def excess(self, rows: int, bad: int) -> tuple[int, int] | None:
        """``bad`` and ``rows`` of the window that ends with a batch, if too many are bad."""
        all_rows = rows + sum(earlier for earlier, _ in self._batches)
        all_bad = bad + sum(earlier for _, earlier in self._batches)
        return (all_bad, all_rows) if all_bad >= _LEAST_BAD and all_bad > self._limit * all_rows else None

    def add(self, rows: int, bad: int) -> None:
        """Count a batch that was committed."""
        self._batches.append((rows, bad))
        while sum(later for later, _ in list(self._batches)[1:]) >= _WINDOW:
            self._batches.popleft()
