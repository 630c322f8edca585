"""Calibrated ratings: what a score is worth on the scale of the ratings.

The bias of a user moves that user's whole list and a positive factor stretches it: neither changes its order. They
belong here, where an error is measured in ratings.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.integer]

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CalibratedRatings:
    """r = mean + b_u + f_u·(b_i + slope·(s − score_mean)), f_u > 0, and 1 for every user unless factors were fitted."""

    mean: float
    user_bias: Values
    item_bias: Values
    factor: Values
    slope: float
    score_mean: float
    least: float
    most: float

    def predict(self, users: Rows, items: Rows, scores: Values | None = None, *, clip: bool = False) -> Values:
        """(n,) ratings of pairs.

        A row that training did not have, −1 for one, gets bias 0 and factor 1; a missing score, NaN or None, counts as
        the mean score.

        Args:
            clip: into the range of the ratings in training. That adds to no error within the range, but makes ties.
        """
        offset = _centred(scores, self.score_mean, len(users))
        worth = _looked_up(self.item_bias, items, 0.0) + self.slope * offset
        ratings = self.mean + _looked_up(self.user_bias, users, 0.0) + _looked_up(self.factor, users, 1.0) * worth
        return ratings.clip(self.least, self.most) if clip else ratings


def fit_ratings(
    users: Rows,
    items: Rows,
    ratings: Values,
    scores: Values | None = None,
    *,
    user_shrink: float = 10.0,
    item_shrink: float = 25.0,
    factor_shrink: float | None = None,
    least_factor: float = 0.05,
) -> CalibratedRatings:
    """The least Σ (r − mean − b_u − b_i − slope·(s − s̄))² + user_shrink·Σ b_u² + item_shrink·Σ b_i².

    Biases as in Koren (Factor in the Neighbors, TKDD 2010), whose constants are the defaults, but fitted together. For
    given slope a they are linear in r − a·s, so that two fits of biases, to r and to s, give the best slope exactly.

    Args:
        users, items: (n,) rows from 0.
        ratings: (n,) finite, n ≥ 1.
        user_shrink, item_shrink: in ratings, best chosen on validation; infinite leaves the biases out.
        scores: (n,); NaN counts as the mean score. None, or scores that the biases explain: the slope is 0.
        factor_shrink: fits the article's factor per user as well: with x = b_i + slope·(s − s̄) fixed, the least
            Σ (r − mean − b_u − f_u·x)² + factor_shrink·(f_u − 1)², raised to ``least_factor``, which must be
            positive, lest a list turn round. None: no factors.
    """
    if not len(ratings):
        raise ValueError("there is no rating to fit")
    if not least_factor > 0:
        raise ValueError(f"least_factor must be positive, found {least_factor}")
    shrink = (user_shrink, item_shrink)
    score_mean = _known_mean(scores)
    offset = _centred(scores, score_mean, len(ratings))
    rated, scored = _fit_biases(users, items, ratings, shrink), _fit_biases(users, items, offset, shrink)
    unexplained = offset @ (offset - scored.of(users, items))
    # What the biases explain fully leaves a trace, since their fit stops somewhere.
    is_new = unexplained > 1e-6 * (offset @ offset)
    slope = float(offset @ (ratings - rated.of(users, items)) / unexplained) if is_new else 0.0
    mean = rated.mean - slope * scored.mean
    user_bias, item_bias = rated.users - slope * scored.users, rated.items - slope * scored.items
    factor = np.ones(len(user_bias))
    if factor_shrink is not None:
        worth, left = item_bias[items] + slope * offset, ratings - mean - user_bias[users]
        factor = _fit_factors(users, worth, left, factor, factor_shrink).clip(least_factor)
    least, most = float(ratings.min()), float(ratings.max())
    return CalibratedRatings(mean, user_bias, item_bias, factor, slope, score_mean, least, most)


def mse(predicted: Values, actual: Values) -> float:
    """Σ (predicted − actual)² / n; NaN if n is 0."""
    return float(np.mean((predicted - actual) ** 2)) if len(actual) else math.nan


def mae(predicted: Values, actual: Values) -> float:
    """Σ |predicted − actual| / n; NaN if n is 0."""
    return float(np.mean(np.abs(predicted - actual))) if len(actual) else math.nan


class _Biases(NamedTuple):
    mean: float
    users: Values
    items: Values

    def of(self, users: Rows, items: Rows) -> Values:
        return self.mean + self.users[users] + self.items[items]


def _fit_biases(
    users: Rows, items: Rows, values: Values, shrink: tuple[float, float], rounds: int = 200, tolerance: float = 1e-9
) -> _Biases:
    """The least Σ (v − mean − b_u − b_i)² + shrink[0]·Σ b_u² + shrink[1]·Σ b_i², by turns, until it stands still."""
    mean, scale = float(values.mean()), np.abs(values).max()
    user_counts, item_counts = np.bincount(users), np.bincount(items)
    user_bias, item_bias = np.zeros(len(user_counts)), np.zeros(len(item_counts))
    for _ in range(rounds):
        mean_before, users_before = mean, user_bias
        item_bias, centre = _shrunk_means(items, values - mean - user_bias[users], item_counts, shrink[1])
        mean += centre
        user_bias, centre = _shrunk_means(users, values - mean - item_bias[items], user_counts, shrink[0])
        mean += centre
        if max(abs(mean - mean_before), np.abs(user_bias - users_before).max()) <= tolerance * scale:
            break
    return _Biases(mean, user_bias, item_bias)


def _fit_factors(users: Rows, worth: Values, left: Values, prior: Values, shrink: float) -> Values:
    """Of each user, the least Σ (left − f·worth)² + shrink·(f − prior)²; the prior where nothing says otherwise."""
    shared, squares = (np.bincount(users, worth * other, len(prior)) for other in (left, worth))
    known = squares + shrink > 0
    return np.divide(shared + shrink * prior, squares + shrink, out=prior.copy(), where=known)


def _shrunk_means(rows: Rows, values: Values, counts: NDArray[np.integer], shrink: float) -> tuple[Values, float]:
    """Σ value / (n + shrink) of each row around the mean of these, and that mean; 0 for rows without values.

    The mean over all is not shrunk, hence at the minimum the biases have mean 0: what they have beside it is for the
    caller to add to the mean over all, which nothing else has to fit.
    """
    present = counts > 0
    means = np.divide(np.bincount(rows, values), counts + shrink, out=np.zeros(len(counts)), where=present)
    centre = float(means[present].mean())
    return np.where(present, means - centre, 0.0), centre


def _looked_up(values: Values, rows: Rows, default: float) -> Values:
    known = (rows >= 0) & (rows < len(values))
    return np.append(values, default)[np.where(known, rows, len(values))]


def _known_mean(scores: Values | None) -> float:
    known = np.zeros(0) if scores is None else scores[~np.isnan(scores)]
    return float(known.mean()) if len(known) else 0.0


def _centred(scores: Values | None, mean: float, size: int) -> Values:
    return np.zeros(size) if scores is None else np.where(np.isnan(scores), 0.0, scores - mean)
