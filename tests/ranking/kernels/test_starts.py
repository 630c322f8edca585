"""Where trees start: a logistic regression against a slow one, its signs, and sums of contributions."""

import numpy as np
import pytest

from recsys_spark.ranking.kernels.features import FEATURES, POPULARITY
from recsys_spark.ranking.kernels.starts import COLUMNS, logistic_start, popularity_start, start_columns
from recsys_spark.ranking.kernels.trees import LOGISTIC, TreeSettings, fit_trees


def examples(seed=0, rows=3000):
    """Features in their ranges; items are chosen by score and popularity, less often the more a user has chosen."""
    random = np.random.default_rng(seed)
    features = random.random((rows, len(FEATURES))).astype(np.float32)
    features[:, [FEATURES.index(name) for name in POPULARITY]] = -random.exponential(2, (rows, len(POPULARITY)))
    features[::7, FEATURES.index("text")] = np.nan
    popular, score, events = (features[:, FEATURES.index(n)] for n in ("popularity_7", "score", "user_events"))
    odds = popular + 2 * np.log(score + 0.001) - 2 * events
    return features, random.random(rows) < 1 / (1 + np.exp(-odds))


def test_a_logistic_start_is_the_regression_of_slow_gradient_steps():
    features, relevant = examples()
    start, table = logistic_start(features, relevant), start_columns(features)
    means, scales = table.mean(axis=0), table.std(axis=0)
    rows, weights, intercept = (table - means) / scales, np.zeros(len(COLUMNS)), 0.0
    signed = np.array([name in ("user_events", "item_liked") for name in COLUMNS])
    for _ in range(20_000):
        wrong = 1 / (1 + np.exp(-(rows @ weights + intercept))) - relevant
        weights -= 1e-4 * (wrong @ rows + weights)
        weights[~signed] = np.maximum(weights[~signed], 0)
        intercept -= 1e-4 * wrong.sum()
    slow = dict(zip(COLUMNS, weights / scales, strict=True))
    assert all(start.weights.get(name, 0) == pytest.approx(value, abs=2e-3) for name, value in slow.items())
    assert start.weights["user_events"] < 0 < min(start.weights["score"], start.weights["popularity_7"])
    assert min(value for name, value in start.weights.items() if name not in ("user_events", "item_liked")) >= 0


@pytest.mark.parametrize("base", [LOGISTIC, "popularity_7"])
def test_trees_start_at_the_mean_of_the_examples_and_their_contributions_add_up(base):
    features, relevant = examples(1)
    is_logistic = base == LOGISTIC
    start = logistic_start(features, relevant) if is_logistic else popularity_start(features, relevant, base)
    odds = start.scores(features)
    assert (1 / (1 + np.exp(-odds))).mean() == pytest.approx(relevant.mean(), rel=1e-3)
    trees = fit_trees(features, relevant, TreeSettings(base=base, rounds=5))
    np.testing.assert_allclose(trees.contributions(features).sum(axis=1), trees.scores(features), atol=2e-5)
