"""Calibrated ratings: predict ratings from user biases, item biases and a score.

The bias and the positive factor of a user change no ranking, since they shift and scale all of the user's items. They
matter where errors are measured on the scale of the ratings.
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
    """r = mean + b_u + f_u·(b_i + slope·(s − score_mean)) with f_u > 0; f_u is 1 unless factors were fitted."""

    mean: float
    user_bias: Values
    item_bias: Values
    factor: Values
    slope: float
    score_mean: float
    least: float
    most: float

    def predict(self, users: Rows, items: Rows, scores: Values | None = None, *, clip: bool = False) -> Values:
        """(n,) predicted ratings of pairs.

        Rows without training ratings, such as −1, have bias 0 and factor 1. A missing score, NaN or None, is replaced
        by the mean score.

        Args:
            clip: clip to the range of the training ratings. No error of a rating within it grows, but ties appear.
        """
        offset = _centred(scores, self.score_mean, len(users))
        item_part = _look_up(self.item_bias, items, 0.0) + self.slope * offset
        ratings = self.mean + _look_up(self.user_bias, users, 0.0) + _look_up(self.factor, users, 1.0) * item_part
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
    """Minimise Σ (r − mean − b_u − b_i − slope·(s − s̄))² + user_shrink·Σ b_u² + item_shrink·Σ b_i².

    Biases as in Koren (Factor in the Neighbors, TKDD 2010), whose constants are the defaults, but fitted jointly. For a
    given slope a they are linear in r − a·s, so that two fits of biases, to r and to s, give the best slope exactly.

    Args:
        users, items: (n,) rows from 0.
        ratings: (n,) finite, n ≥ 1.
        user_shrink, item_shrink: ridge penalties, in ratings; best chosen on validation. Infinite: no biases.
        scores: (n,); NaN is replaced by the mean score. The slope is 0 without scores, and if the biases explain them.
        factor_shrink: also fit the article's factor per user. With x = b_i + slope·(s − s̄) fixed, it minimises
            Σ (r − mean − b_u − f_u·x)² + factor_shrink·(f_u − 1)². None: all factors are 1.
        least_factor: lower bound of the factors, which must be positive, otherwise a user's ranking would be reversed.

    Raises:
        ValueError: there is no rating, or ``least_factor`` is not positive.
    """
    if not len(ratings):
        raise ValueError("there is no rating to fit")
    if not least_factor > 0:
        raise ValueError(f"least_factor must be positive, found {least_factor}")
    shrink = (user_shrink, item_shrink)
    score_mean = _mean_score(scores)
    offset = _centred(scores, score_mean, len(ratings))
    rating_biases, score_biases = _fit_biases(users, items, ratings, shrink), _fit_biases(users, items, offset, shrink)
    unexplained = offset @ (offset - score_biases.predict(users, items))
    # The fit of the biases is iterative, so a score that they explain fully leaves a small remainder.
    has_slope = unexplained > 1e-6 * (offset @ offset)
    slope = float(offset @ (ratings - rating_biases.predict(users, items)) / unexplained) if has_slope else 0.0
    mean = rating_biases.mean - slope * score_biases.mean
    user_bias = rating_biases.users - slope * score_biases.users
    item_bias = rating_biases.items - slope * score_biases.items
    factor = np.ones(len(user_bias))
    if factor_shrink is not None:
        item_part, residuals = item_bias[items] + slope * offset, ratings - mean - user_bias[users]
        factor = _fit_factors(users, item_part, residuals, factor, factor_shrink).clip(least_factor)
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

    def predict(self, users: Rows, items: Rows) -> Values:
        return self.mean + self.users[users] + self.items[items]


def _fit_biases(
    users: Rows, items: Rows, values: Values, shrink: tuple[float, float], rounds: int = 200, tolerance: float = 1e-9
) -> _Biases:
    """Minimise Σ (v − mean − b_u − b_i)² + shrink[0]·Σ b_u² + shrink[1]·Σ b_i² by alternation until convergence."""
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


def _fit_factors(users: Rows, item_part: Values, residuals: Values, prior: Values, shrink: float) -> Values:
    """For each user, minimise Σ (residual − f·item_part)² + shrink·(f − prior)²; the prior where that leaves f open."""
    products, squares = (np.bincount(users, item_part * other, len(prior)) for other in (residuals, item_part))
    is_determined = squares + shrink > 0
    return np.divide(products + shrink * prior, squares + shrink, out=prior.copy(), where=is_determined)


def _shrunk_means(rows: Rows, values: Values, counts: NDArray[np.integer], shrink: float) -> tuple[Values, float]:
    """Σ value / (n + shrink) of each row, centred, and the mean that was subtracted; 0 for rows without values.

    The global mean is not penalised, so at the minimum the biases have mean 0: the caller adds the mean that was
    subtracted to the global mean.
    """
    has_values = counts > 0
    means = np.divide(np.bincount(rows, values), counts + shrink, out=np.zeros(len(counts)), where=has_values)
    centre = float(means[has_values].mean())
    return np.where(has_values, means - centre, 0.0), centre


def _look_up(values: Values, rows: Rows, default: float) -> Values:
    in_range = (rows >= 0) & (rows < len(values))
    return np.append(values, default)[np.where(in_range, rows, len(values))]


def _mean_score(scores: Values | None) -> float:
    present = np.zeros(0) if scores is None else scores[~np.isnan(scores)]
    return float(present.mean()) if len(present) else 0.0


def _centred(scores: Values | None, mean: float, size: int) -> Values:
    return np.zeros(size) if scores is None else np.where(np.isnan(scores), 0.0, scores - mean)
