"""Where boosted trees start from: log-odds that are linear in logarithms of few features."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_spark.ranking.kernels.features import FEATURES, OWN_HALF_LIVES, POPULARITY, Floats

Table = NDArray[np.float64]

_POPULAR = np.float32(0.002)
_PART = 0.02
_SCORE = 0.001
"""What is added to a share of the most popular item, to a share or a decayed count of a user, and to a score, so that
their logarithms are finite."""

_PARTS = ("score_share", "score_recent_share", *(f"own_{days}" for days in OWN_HALF_LIVES))

_SCORES = ("score", "score_recent")

_PLAIN = ("text", "user_events", "item_liked")

COLUMNS = (*POPULARITY, *_PARTS, *_SCORES, *_PLAIN)
"""Features that a start is made of."""

_SIGNED = ("user_events", "item_liked")
"""Columns of which less may be better."""

_DECIMALS = 3
"""Weights are rounded, so that the last bits of a matrix product, which differ between processors, change no tree."""

_PENALTY = 1.0


@dataclass(frozen=True)
class Start:
    """The log-odds ``intercept`` + Σ weight · column, and the mean of each column over the examples."""

    weights: Mapping[str, float]
    intercept: float
    means: Mapping[str, float]

    def scores(self, features: Floats) -> Floats:
        """(C,) log-odds of candidates with ``pair_features``."""
        table = start_columns(features, tuple(self.weights))
        return np.asarray(table @ np.array([*self.weights.values()]) + self.intercept, np.float32)

    def contributions(self, features: Floats) -> tuple[Table, float]:
        """((C, len(weights)) what each column adds to or takes from the mean score of the examples, this mean)."""
        names, weights = tuple(self.weights), np.array([*self.weights.values()])
        means = np.array([self.means[name] for name in names])
        return (start_columns(features, names) - means) * weights, float(means @ weights + self.intercept)


def start_columns(features: Floats, names: tuple[str, ...] = COLUMNS) -> Table:
    """(C, len(names)) logarithms of popularity, shares and scores; other columns as they are, 0 where unknown."""
    return np.column_stack([_column(features[:, FEATURES.index(name)], name) for name in names]).astype(np.float64)


def popularity_start(features: Floats, relevant: NDArray[np.bool_], name: str) -> Start:
    """The start by one popularity: a ranking that needs no example. No tree is spent on the mean probability."""
    scores = start_columns(features, (name,))[:, 0]
    return Start({name: 1.0}, _intercept(scores, float(relevant.mean())), {name: round(float(scores.mean()), 6)})


def logistic_start(features: Floats, relevant: NDArray[np.bool_]) -> Start:
    """The start by logistic regression on COLUMNS, which weighs popularity and scores against each other.

    No weight is negative but those of _SIGNED: as in the trees, more of a feature is never worse. L2 penalty of 1 on
    standardized columns; L-BFGS-B (Byrd et al., SIAM J. Sci. Comput. 16, 1995).

    Args:
        features: (C, F).
        relevant: (C,) whether the user chose the item; some are, some are not.
    """
    from scipy.optimize import minimize

    table = start_columns(features)
    means, scales = table.mean(axis=0), table.std(axis=0)
    scales[scales == 0] = 1.0
    table = (table - means) / scales
    labels = relevant.astype(np.float64)

    def loss(weights: Table) -> tuple[float, Table]:
        margins = table @ weights[:-1] + weights[-1]
        wrong = 1 / (1 + np.exp(-margins)) - labels
        value = np.logaddexp(0, margins).sum() - margins @ labels + _PENALTY * (weights[:-1] ** 2).sum() / 2
        return float(value), np.append(wrong @ table + _PENALTY * weights[:-1], wrong.sum())

    first = np.append(np.zeros(len(COLUMNS)), np.log(labels.mean() / (1 - labels.mean())))
    bounds = [(None if name in _SIGNED else 0.0, None) for name in COLUMNS] + [(None, None)]
    found = minimize(loss, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-12, "gtol": 1e-8})
    weights = np.round(found.x[:-1] / scales, _DECIMALS)
    chosen = {name: float(weight) for name, weight in zip(COLUMNS, weights, strict=True) if weight}
    rounded = dict(zip(COLUMNS, np.round(means, 6).tolist(), strict=True))
    scores = (table * scales + means) @ weights
    return Start(chosen, _intercept(scores, float(labels.mean())), {name: rounded[name] for name in chosen})


def _column(values: Floats, name: str) -> NDArray[np.floating]:
    if name in POPULARITY:
        return np.log(np.exp(values) + _POPULAR)
    if name in _PLAIN:
        return np.nan_to_num(values)
    return np.log(np.maximum(values, 0) + (_SCORE if name in _SCORES else _PART))


def _intercept(scores: Table, mean: float) -> float:
    """What makes the mean probability of log-odds that of the examples, by bisection."""
    low, high = -30.0, 30.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 / (1 + np.exp(-(scores + middle)))).mean() < mean else (low, middle)
    return round(low, 6)
