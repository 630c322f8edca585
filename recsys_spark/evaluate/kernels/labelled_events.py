"""Events of histories, and those after them that are to be found."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_spark.evaluate.kernels.scorers import Rows


@dataclass(frozen=True)
class UsersWithTargets:
    """A batch of users with a history and an event to find.

    Args:
        items: (e,) items of their histories, each user's oldest first.
        offsets: (users + 1,) where each history begins, and the end of the last.
        target_owner: (t,) the user, 0 … users − 1, of each event to find.
        targets: (t,) its item.
    """

    items: Rows
    offsets: Rows
    target_owner: Rows
    targets: Rows


@dataclass(frozen=True, eq=False)
class LabelledEvents:
    """Events to fit on, and those after them that the fit is validated on.

    Args:
        items: (e,) item numbers, each user's oldest event first.
        owner: (e,) ascending rows of users.
        past: (e,) whether an event belongs to the history.
        valid: (e,) whether it is for validation.
        fitted: (u,) whether the history of a user may be trained on.
    """

    items: Rows
    owner: Rows
    past: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    fitted: NDArray[np.bool_]

    def history(self, *, fitted: bool = False) -> tuple[Rows, Rows]:
        """Items and offsets of the histories of all users; with ``fitted``, empty ones for users not trained on."""
        past = self.past & self.fitted[self.owner] if fitted else self.past
        sizes = np.bincount(self.owner[past], minlength=len(self.fitted))
        return self.items[past], np.append(0, np.cumsum(sizes))

    def batches(self, size: int) -> Iterator[UsersWithTargets]:
        """The users with a history and a validation event, at most ``size`` at once."""
        items, offsets = self.history()
        users = np.intersect1d(self.owner[self.valid], np.flatnonzero(np.diff(offsets)))
        for start in range(0, len(users), size):
            part = users[start : start + size]
            sizes = np.diff(offsets)[part]
            ends = np.cumsum(sizes)
            places = np.repeat(offsets[part], sizes) + np.arange(sizes.sum()) - np.repeat(ends - sizes, sizes)
            first, last = np.searchsorted(self.owner, [part[0], part[-1] + 1])
            targets = first + np.flatnonzero(self.valid[first:last] & np.isin(self.owner[first:last], part))
            owner = np.searchsorted(part, self.owner[targets])
            yield UsersWithTargets(items[places], np.append(0, ends), owner, self.items[targets])
