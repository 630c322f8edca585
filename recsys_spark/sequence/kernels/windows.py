"""Histories cut into sequences of bounded length."""

import numpy as np
from numpy.typing import NDArray

PAD = -1
"""Item number of the places after the last event of a sequence."""

Rows = NDArray[np.int64]


def last_events(items: Rows, offsets: Rows, length: int) -> Rows:
    """(u, l) the newest ``length`` events of each history, the oldest first, then PAD; l is the most that one has.

    Args:
        items: (e,) item numbers, each history's oldest event first.
        offsets: (u + 1,) where each history begins, and the end of the last.
    """
    sizes = np.minimum(np.diff(offsets), length)
    return _filled(items, offsets[1:] - sizes, sizes)


def training_windows(items: Rows, offsets: Rows, length: int) -> Rows:
    """(w, l ≤ length + 1) pieces of the histories: in each, every event but the first is a target of those before it.

    A history is cut from its end into pieces that share one event, so that each event but the oldest is a target once.
    Histories of a single event give no piece.
    """
    targets = np.diff(offsets) - 1
    pieces = np.maximum(-(-targets // length), 0)
    owner = np.repeat(np.arange(len(pieces)), pieces)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)  # 0: the newest
    ends = offsets[1:][owner] - number * length
    starts = np.maximum(ends - length - 1, offsets[:-1][owner])
    return _filled(items, starts, ends - starts)


def _filled(items: Rows, starts: Rows, sizes: Rows) -> Rows:
    places = np.arange(max(sizes.max(initial=0), 1))
    inside = places < sizes[:, None]
    return (
        np.where(inside, items[np.where(inside, starts[:, None] + places, 0)], PAD)
        if len(items)
        else np.where(inside, 0, PAD)
    )
