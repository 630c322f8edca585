"""Lists of codes by user, and where pairs of a user and a code are in them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class CodeLists:
    """Codes of B users, each once and ascending within a user. ``offsets``: (B + 1,); ``codes``: (E,)."""

    offsets: Rows
    codes: Rows

    @property
    def sizes(self) -> Rows:
        """(B,) number of codes."""
        return np.diff(self.offsets)

    @property
    def users(self) -> Rows:
        """(E,) row of the user of each code."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.sizes)

    def entries(self, users: Rows, codes: Rows) -> Rows:
        """The entry that is this code of this user; −1 for none."""
        if not len(self.codes):
            return np.full(len(users), -1)
        distinct, rows = np.unique(self.codes, return_inverse=True)
        columns, present = positions(distinct, codes)
        places, matches = positions(self.users * len(distinct) + rows, users * len(distinct) + columns)
        return np.where(present & matches, places, -1)


def positions(ordered: Rows, values: Rows) -> tuple[Rows, NDArray[np.bool_]]:
    """(position of each value in ``ordered``, whether it is there). ``ordered``: ascending, not empty."""
    places = np.searchsorted(ordered, values).clip(max=len(ordered) - 1)
    return places, ordered[places] == values
