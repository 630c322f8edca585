"""Users with planted preferences, who are shown explored lists: logs whose true values are computed, not estimated."""

from dataclasses import dataclass

import numpy as np

from recsys_spark.online.kernels.off_policy import Log
from recsys_spark.recommend.kernels.exploration import Exploration, explored

EXPLORATION = Exploration(0.6, 3, 1)


@dataclass(frozen=True)
class World:
    """Kinds of users, equally frequent. ``preferences[kind, item, place]``: the probability of a reward."""

    preferences: np.ndarray
    logged: np.ndarray  # (kinds, candidates) the items of each kind's list
    target: np.ndarray  # (kinds, slots) the items that the target policy shows

    @classmethod
    def planted(cls, seed: int, kinds: int = 5, items: int = 7, slots: int = 3) -> "World":
        rng = np.random.default_rng(seed)
        attraction, position = rng.uniform(0.1, 0.9, (kinds, items, 1)), np.array([1.0, 0.7, 0.5])[:slots]
        logged = np.argsort(rng.random((kinds, items)), axis=1)
        target = logged.copy()
        target[:, 1:] = rng.permuted(target[:, 1:], axis=1)  # the head is shown by both
        return cls(attraction * position, logged, target[:, :slots])

    @property
    def value(self) -> float:
        """The mean reward of an impression of the target policy."""
        kinds, slots = np.arange(len(self.target))[:, None], np.arange(self.target.shape[1])
        return float(self.preferences[kinds, self.target, slots].mean())

    def log(self, users: int, seed: int, settings: Exploration = EXPLORATION) -> Log:
        """One list per user; the prediction of a reward is the mean of its place under the logging policy."""
        rng = np.random.default_rng(seed)
        kind, hashes = rng.integers(len(self.target), size=users), rng.integers(2**63, size=users)
        chosen, propensity = explored(np.full(users, self.logged.shape[1]), hashes, settings)
        items, slots = self.logged[kind[:, None], chosen], np.arange(settings.slots)
        reward = (rng.random(items.shape) < self.preferences[kind[:, None], items, slots]).astype(float)
        predicted = np.broadcast_to(self.preferences.mean(axis=(0, 1)), items.shape)
        shown = (items == self.target[kind]).astype(float)
        parts = (np.repeat(hashes, settings.slots), *(part.ravel() for part in (propensity, shown, reward, predicted)))
        return Log(*parts)


def rows_of(log: Log, keep: np.ndarray) -> Log:
    """The impressions that a mask or slice keeps."""
    return Log(*(part[keep] for part in (log.users, log.propensity, log.target, log.reward, log.predicted)))
