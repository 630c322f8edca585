"""Histories cut into sequences of bounded length."""

import numpy as np
from numpy.typing import NDArray

PAD = -1
"""Item number of the places after the last event of a sequence."""

Rows = NDArray[np.int64]


def training_windows(items: Rows, offsets: Rows, length: int) -> Rows:
    """(w, l ≤ length + 1) pieces of the histories, then PAD: every event but the first of a piece is a target.

    A history is cut from its end into pieces that share one event, so that each event but the oldest is a target once.
    Histories of a single event give no piece.

    Args:
        items: (e,) item numbers, each history's oldest event first.
        offsets: (u + 1,) where each history begins, and the end of the last.
        length: greatest number of targets of a piece.
    """
    targets = np.diff(offsets) - 1
    pieces = np.maximum(-(-targets // length), 0)
    owner = np.repeat(np.arange(len(pieces)), pieces)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)  # 0: the newest
    ends = offsets[1:][owner] - number * length
    starts = np.maximum(ends - length - 1, offsets[:-1][owner])
    places = np.arange(max((ends - starts).max(initial=0), 1)) + starts[:, None]
    return np.append(items, PAD)[np.where(places < ends[:, None], places, len(items))]
