"""Boosted trees that rank candidates (XGBoost, Chen and Guestrin, KDD 2016), and their exact contributions."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from recsys_spark.ranking.kernels.features import FEATURES, OWN_HALF_LIVES, POPULARITY, Floats
from recsys_spark.ranking.kernels.starts import Start, logistic_start, popularity_start

_THREADS = 1
"""A sample of users is trained on in seconds by one thread, while the threads of OpenMP spin where cores are shared:
two needed six times as long there. One thread also adds up gradients in the same order on every machine."""

LOGISTIC = "logistic"
"""The trees start from a logistic regression, and not from one popularity."""

_SCORES = ("score", "score_share", "score_recent", "score_recent_share")

_RISING = (*POPULARITY, *(f"own_{days}" for days in OWN_HALF_LIVES), *_SCORES, "text")
"""Features of which more is never worse: with few examples, trees without this rule rank below plain popularity."""


@dataclass(frozen=True)
class TreeSettings:
    """Settings of the trees.

    Args:
        base: where the trees start: a popularity, or LOGISTIC.
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
    """Trained trees: the model (UBJSON), and where they start."""

    model: bytes
    start: Start

    def scores(self, features: Floats) -> Floats:
        """(C,) log-odds that the user chooses the item. A score depends on its row of ``features`` alone."""
        booster = _booster(self.model)
        scores = booster.inplace_predict(features, predict_type="margin", validate_features=False)
        return self.start.scores(features) + np.asarray(scores, np.float32)

    def contributions(self, features: Floats) -> NDArray[np.float64]:
        """(C, F + 1) contributions of the features and the expected score, whose sum is the score (TreeSHAP, Lundberg
        et al., Nature Machine Intelligence 2020)."""
        import xgboost

        data = xgboost.DMatrix(features, feature_names=list(FEATURES), nthread=1)
        values = np.asarray(_booster(self.model).predict(data, pred_contribs=True), np.float64)
        # A feature of the start speaks for an item where it is above that of the examples.
        added, mean = self.start.contributions(features)
        values[:, [FEATURES.index(name) for name in self.start.weights]] += added
        values[:, -1] += mean
        return values


def fit_trees(features: Floats, relevant: NDArray[np.bool_], settings: TreeSettings) -> Trees:
    """Train trees on candidates by the logistic loss.

    Args:
        features: (C, F).
        relevant: (C,) whether the user chose the item.
        settings: of the trees.
    """
    import xgboost

    is_logistic = settings.base == LOGISTIC
    start = logistic_start(features, relevant) if is_logistic else popularity_start(features, relevant, settings.base)
    used = features.copy()
    used[:, [FEATURES.index(name) for name in settings.unused]] = np.nan  # a missing value splits nothing
    data = xgboost.QuantileDMatrix(
        used,
        label=relevant.astype(np.float32),
        base_margin=start.scores(features),
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
    return Trees(bytes(booster.save_raw("ubj")), start)


@lru_cache(maxsize=4)
def _booster(model: bytes) -> "xgboost.Booster":  # type: ignore[name-defined]  # noqa: F821
    import xgboost

    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(model))
    return booster
