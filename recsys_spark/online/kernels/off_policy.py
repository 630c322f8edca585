"""Off-policy estimates: the mean reward of an impression under another policy, from a log with propensities.

An impression i shows an item with probability p_i (the propensity of the logging policy), the target policy shows the
same item at the same place with probability π_i, and the reward is r_i. With the weight w_i = π_i / p_i, the clipped
weight v_i = min(w_i, c) and the prediction q_i of a reward model:

- ``logged`` Σ r / n: the mean reward of the logging policy;
- ``ips``    Σ v·r / n: unbiased without clipping (Horvitz and Thompson, 1952);
- ``snips``  Σ v·r / Σ v: self-normalised, biased by O(1/n), with less variance (Swaminathan and Joachims, NeurIPS
  2015);
- ``dr``     Σ (q + v·(r − q)) / n: doubly robust, right if the propensities or the model are (Dudík, Langford and Li,
  ICML 2011). The prediction depends on the place but not on the item, so its mean over the items of the target policy
  is q itself.

A place counts by itself: the reward of an item may depend on its rank, not on the other items of the list (the
item-position model of Li et al., KDD 2018). Clipping lowers ``ips`` by E[(w − v)·r] (Ionides, Truncated Importance
Sampling, 2008), so its bias is at most E[(w − v)·|r|], and that of ``dr`` E[(w − v)·|r − q|]; both are estimated by
their means. If the log can show everything that the target shows, the mean of w is 1. A smaller mean says which share
of the target's impressions the log can never show.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_spark.arrays.hashed_draws import Hashes
from recsys_spark.evaluate.kernels.metrics import bootstrap_sums, interval, poisson_weights

Values = NDArray[np.float64]

Rows = NDArray[np.integer]

SUMS = ("n", "weight", "kept", "squares", "reward", "kept_reward", "dr", "lost_reward", "lost_error", "clipped")
"""The sums of a log: rows, w, v, v², r, v·r, q + v·(r − q), (w − v)·|r|, (w − v)·|r − q|, rows with w > c."""

ESTIMATORS = ("logged", "ips", "snips", "dr")


@dataclass(frozen=True)
class Log:
    """Impressions, one per row, all (n,): the hash of the user, p in (0, 1], π in [0, 1], r, and the prediction q."""

    users: Hashes
    propensity: Values
    target: Values
    reward: Values
    predicted: Values


@dataclass(frozen=True)
class Estimate:
    """A value with the interval of its confidence level; None where the log does not suffice."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Diagnostics:
    """How far the estimates of a log can be trusted.

    Args:
        ess: effective sample size (Σ v)² / Σ v² (Kish, 1965): this many impressions of the target policy itself would
            say as much.
        mean_weight: Σ w / n, with its interval.
        clipped_rows: number of impressions with w above c.
        clipped_weight: the share of Σ w that clipping removed.
        bias: the bound of the bias of ``ips`` by clipping, and that of ``dr``.
    """

    ess: float
    mean_weight: Estimate
    clipped_rows: int
    clipped_weight: float
    bias: tuple[float, float]


def log_sums(log: Log, max_weight: float | None, replicates: int, seed: int) -> Values:
    """(1 + replicates, len(SUMS)): the sums of a part of a log, and of each bootstrap replicate of its users.

    The sums of parts add up to those of the whole log, however its rows are spread: all impressions of a user have the
    same number of draws, a function of the user's hash (``poisson_weights``).
    """
    weight = log.target / log.propensity
    kept = weight if max_weight is None else np.minimum(weight, max_weight)
    error, lost = log.reward - log.predicted, weight - kept
    columns = [
        np.ones_like(weight), weight, kept, kept**2, log.reward, kept * log.reward, log.predicted + kept * error,
        lost * np.abs(log.reward), lost * np.abs(error), (lost > 0).astype(np.float64),
    ]  # fmt: skip
    users, owner = np.unique(log.users, return_inverse=True)
    by_user = np.stack([np.bincount(owner, column, len(users)) for column in columns], axis=1).astype(np.float64)
    draws = poisson_weights(users, replicates, seed)
    return np.vstack([by_user.sum(axis=0), bootstrap_sums(by_user, draws)[0]])


def cross_fitted_means(sums: Values, counts: Values) -> Values:
    """(folds, ranks) the mean reward of each rank over the impressions of the other folds.

    Args:
        sums, counts: (folds, ranks) of the rewards.

    A rank that the other folds do not have gets their mean over all ranks, or 0 if they are empty.
    """
    others, rows = sums.sum(axis=0) - sums, counts.sum(axis=0) - counts
    whole, size = others.sum(axis=1, keepdims=True), rows.sum(axis=1, keepdims=True)
    mean = np.divide(whole, size, out=np.zeros_like(whole), where=size > 0)
    return np.divide(others, rows, out=np.broadcast_to(mean, others.shape).copy(), where=rows > 0)


def estimates(sums: Values) -> dict[str, Values]:
    """Each of ESTIMATORS for (…, len(SUMS)) sums; NaN where a denominator is 0."""
    n, kept, reward, kept_reward, dr = (_column(sums, name) for name in ("n", "kept", "reward", "kept_reward", "dr"))
    return {
        "logged": _shares(reward, n),
        "ips": _shares(kept_reward, n),
        "snips": _shares(kept_reward, kept),
        "dr": _shares(dr, n),
    }


def summary(sums: Values, users: int, level: float) -> tuple[dict[str, Estimate], dict[str, Estimate], Diagnostics]:
    """Estimates, their differences from ``logged``, and diagnostics.

    Args:
        sums: (1 + replicates, len(SUMS)) of the whole log, at least one row with a weight above 0.
        users: number of users of the log; of one user there are no intervals.
        level: confidence level of the percentile intervals.
    """
    by_name, whole = estimates(sums), sums[0]
    values = {name: _estimate(by_name[name], users, level) for name in ESTIMATORS}
    gains = {
        name: _estimate(by_name[name] - by_name["logged"], users, level) for name in ESTIMATORS if name != "logged"
    }
    n, weight, kept, squares, clipped = (
        float(_column(whole, name)) for name in ("n", "weight", "kept", "squares", "clipped")
    )
    bias = tuple(float(_column(whole, name)) / n for name in ("lost_reward", "lost_error"))
    diagnostics = Diagnostics(
        ess=kept**2 / squares,
        mean_weight=_estimate(_shares(_column(sums, "weight"), _column(sums, "n")), users, level),
        clipped_rows=int(clipped),
        clipped_weight=(weight - kept) / weight,
        bias=(bias[0], bias[1]),
    )
    return values, gains, diagnostics


def _estimate(values: Values, users: int, level: float) -> Estimate:
    """The first of the values, and the interval of the others, which are replicates."""
    if np.isnan(values[0]):
        return Estimate(None)
    low, high = interval(values[1:], level) if users > 1 else (np.nan, np.nan)
    return Estimate(float(values[0])) if np.isnan(low) else Estimate(float(values[0]), low, high)


def _column(sums: Values, name: str) -> Values:
    column: Values = sums[..., SUMS.index(name)]
    return column


def _shares(parts: Values, wholes: Values) -> Values:
    return np.divide(parts, wholes, out=np.full(np.shape(parts), np.nan), where=wholes > 0)
