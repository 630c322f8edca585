"""Boosted trees that rank candidates (XGBoost, Chen and Guestrin, KDD 2016), and their exact contributions."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from recsys_spark.ranking.kernels.features import FEATURES, OWN_HALF_LIVES, POPULARITY, Floats

_THREADS = 1
"""A sample of users is trained on in seconds by one thread, while the threads of OpenMP spin where cores are shared:
two needed six times as long there. One thread also adds up gradients in the same order on every machine."""

_LEAST_SHARE = np.float32(0.002)

_SCORES = ("score", "score_share", "score_recent", "score_recent_share")

_RISING = (*POPULARITY, *(f"own_{days}" for days in OWN_HALF_LIVES), *_SCORES, "text")
"""Features of which more is never worse: with few examples, trees without this rule rank below plain popularity."""


@dataclass(frozen=True)
class TreeSettings:
    """Settings of the trees.

    Args:
        base: feature from which the trees start, a logarithm of a share: a ranking by it needs no example.
        rounds: number of trees.
        unused: features that no tree uses.
        depth: greatest depth of a tree.
        rate: learning rate.
        seed: of the random numbers.
    """

    base: str = "popularity_30"
    rounds: int = 120
    unused: tuple[str, ...] = ()
    depth: int = 4
    rate: float = 0.08
    seed: int = 0


@dataclass(frozen=True)
class Trees:
    """Trained trees: the model (UBJSON), the feature from which they start, what is added to it, and its mean."""

    model: bytes
    base: str
    offset: float
    mean: float

    def scores(self, features: Floats) -> Floats:
        """(C,) log-odds that the user chooses the item. A score depends on its row of ``features`` alone."""
        booster = _booster(self.model)
        scores = booster.inplace_predict(features, predict_type="margin", validate_features=False)
        return _base_scores(features, self.base, self.offset) + np.asarray(scores, np.float32)

    def contributions(self, features: Floats) -> NDArray[np.float64]:
        """(C, F + 1) contributions of the features and the expected score, whose sum is the score (TreeSHAP, Lundberg
        et al., Nature Machine Intelligence 2020)."""
        import xgboost

        data = xgboost.DMatrix(features, feature_names=list(FEATURES), nthread=1)
        values = np.asarray(_booster(self.model).predict(data, pred_contribs=True), np.float64)
        # A popularity speaks for an item where it is above that of the examples.
        values[:, FEATURES.index(self.base)] += _base_scores(features, self.base, -self.mean)
        values[:, -1] += self.offset + self.mean
        return values


def fit_trees(features: Floats, relevant: NDArray[np.bool_], settings: TreeSettings) -> Trees:
    """Train trees on candidates by the logistic loss.

    Args:
        features: (C, F).
        relevant: (C,) whether the user chose the item.
        settings: of the trees.
    """
    import xgboost

    base = _base_scores(features, settings.base, 0.0)
    offset = _offset(base, relevant.mean())
    used = features.copy()
    used[:, [FEATURES.index(name) for name in settings.unused]] = np.nan  # a missing value splits nothing
    data = xgboost.QuantileDMatrix(
        used,
        label=relevant.astype(np.float32),
        base_margin=_base_scores(features, settings.base, offset),
        feature_names=list(FEATURES),
        nthread=_THREADS,
    )
    parameters = {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "max_depth": settings.depth,
        "eta": settings.rate,
        "min_child_weight": 5,
        "lambda": 5,
        "subsample": 0.8,
        "colsample_bytree": 0.7,
        "monotone_constraints": dict.fromkeys(_RISING, 1),
        "base_score": 0.5,  # a margin of 0
        "nthread": _THREADS,
        "seed": settings.seed,
        "verbosity": 0,
    }
    booster = xgboost.train(parameters, data, num_boost_round=settings.rounds)
    return Trees(bytes(booster.save_raw("ubj")), settings.base, offset, round(float(base.mean()), 6))


def _base_scores(features: Floats, base: str, offset: float) -> Floats:
    return np.log(np.exp(features[:, FEATURES.index(base)]) + _LEAST_SHARE) + np.float32(offset)


def _offset(scores: Floats, mean: float) -> float:
    """What makes the mean probability of log-odds that of the examples, by bisection: no tree is spent on it."""
    low, high = -30.0, 30.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 / (1 + np.exp(-(scores + middle)))).mean() < mean else (low, middle)
    return round(low, 6)


@lru_cache(maxsize=4)
def _booster(model: bytes) -> "xgboost.Booster":  # type: ignore[name-defined]  # noqa: F821
    import xgboost

    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(model))
    return booster
