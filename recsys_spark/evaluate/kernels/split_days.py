"""The days of a temporal split, from the number of events of each day."""

import numpy as np
from numpy.typing import NDArray

LEAST_DAYS = 30

_TENTHS = 10
"""A test has one tenth of the events, and its validation the tenth before."""

Window = tuple[int, int, int | None]
"""First day of validation, first day of the test, and the day after its last one; None: until the end."""


def has_real_times(days: int, users: int, first_day_users: int) -> bool:
    """Whether a split by day means something: events on 30 days or more, and most users begin after the first of them.

    Positions that stand for times span as many days as the longest history, and all users begin on the first.
    """
    return days >= LEAST_DAYS and 2 * first_day_users < users


def window_days(days: NDArray[np.int64], events: NDArray[np.int64], windows: int) -> list[Window] | None:
    """The newest ``windows`` test periods, the oldest first; each follows upon the one before.

    A period begins on the day on which its tenth of the events begins, at least one day with events after the
    period before. None where there are too few days for that, or no day is left to fit on.

    Args:
        days: (n,) days with events, ascending.
        events: (n,) their number of events.
    """
    shares = (_TENTHS - 1 - np.arange(windows, -1, -1)) * events.sum() / _TENTHS
    begins = np.searchsorted(np.cumsum(events), shares)
    for n in range(windows - 1, -1, -1):
        begins[n] = min(begins[n], begins[n + 1] - 1)
    if begins[0] < 1:
        return None
    chosen = [*(int(day) for day in days[begins]), None]
    return [(chosen[n], chosen[n + 1], chosen[n + 2]) for n in range(windows)]  # type: ignore[misc]
