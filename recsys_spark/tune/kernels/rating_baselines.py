"""Baselines for predicting scores: global mean, user and item biases, ridge regression on TF-IDF. No torch."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import cg

from recsys_spark.evaluate.kernels.rating_model import fit_ratings, mae, mse

Values = NDArray[np.float64]

RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Grid of ridge penalties; validation chooses."""

_SHRINKS = (1.0, 5.0, 25.0)

_SLOPES = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0)

_FOLDS = 10

_WORD = re.compile(r"\b\w\w+\b")


@dataclass(frozen=True)
class RatingPairs:
    """User-item pairs with a text and a score: ``texts``, ``scores`` (n,), ``users`` and ``items`` (n,) rows from 0,
    and ``part`` (n,): 0 train, 1 validation, 2 test."""

    texts: list[str]
    scores: Values
    users: NDArray[np.int64]
    items: NDArray[np.int64]
    part: NDArray[np.int8]

    def errors(self, predicted: Values, part: int) -> dict[str, float]:
        """MSE and MAE of a part, predictions clipped to the range of the training scores."""
        train, scores = self.scores[self.part == 0], self.scores[self.part == part]
        clipped = np.clip(predicted[self.part == part], train.min(), train.max())
        return {"mse": round(mse(clipped, scores), 4), "mae": round(mae(clipped, scores), 4)}


def baselines(data: RatingPairs) -> dict[str, Values]:
    """(n,) predicted scores by name, of models fitted on the training part; validation chooses their penalties."""
    train, mean = data.part == 0, data.scores[data.part == 0].mean()
    return {
        "global_mean": np.full(len(train), mean),
        "user_item_bias": _bias_scores(data, train, _best_shrink(data)),
        "tfidf_ridge": ridge_scores(data, tfidf(data.texts, train)),
    }


@dataclass(frozen=True)
class LinearRescale:
    """Linear rescaling of predictions: centre + slope · (score − centre) + shift. Predictions shrink to the mean;
    widening them lowers the MAE at little cost in MSE, if most scores are the highest one."""

    centre: float
    slope: float = 1.0
    shift: float = 0.0

    def apply(self, scores: Values) -> Values:
        """(n,) rescaled scores."""
        return self.centre + self.slope * (scores - self.centre) + self.shift


def best_rescale(data: RatingPairs, predicted: Values) -> LinearRescale:
    """The rescaling with the least MSE + MAE on validation, each relative to the error without rescaling."""
    train, before = data.scores[data.part == 0], data.errors(predicted, 1)
    shifts = np.linspace(-1, 1, 21) * float(train.std())
    grid = [LinearRescale(float(train.mean()), slope, float(shift)) for slope in _SLOPES for shift in shifts]

    def cost(rescale: LinearRescale) -> float:
        after = data.errors(rescale.apply(predicted), 1)
        return sum(after[name] / max(before[name], 1e-9) for name in before)

    return min([LinearRescale(float(train.mean())), *grid], key=cost)


def out_of_fold_biases(data: RatingPairs) -> Values:
    """(n,) scores predicted from the biases of user and item only. A training pair gets biases fitted on the other
    folds, so that its residual is as large as that of a new pair."""
    train, shrink = data.part == 0, _best_shrink(data)
    predicted = _bias_scores(data, train, shrink)
    fold = np.random.default_rng(0).integers(0, _FOLDS, len(train))
    for number in range(_FOLDS):
        held_out = train & (fold == number)
        if held_out.any() and (train & ~held_out).any():
            predicted[held_out] = _bias_scores(data, train & ~held_out, shrink)[held_out]
    return predicted


def _best_shrink(data: RatingPairs) -> float:
    train = data.part == 0
    return min(_SHRINKS, key=lambda shrink: data.errors(_bias_scores(data, train, shrink), 1)["mse"])


def _bias_scores(data: RatingPairs, train: NDArray[np.bool_], shrink: float) -> Values:
    """(n,) scores predicted from biases fitted on the pairs of ``train``."""
    users, items, scores = data.users[train], data.items[train], data.scores[train]
    ratings = fit_ratings(users, items, scores, user_shrink=shrink, item_shrink=shrink)
    return ratings.predict(_only_trained(data.users, train), _only_trained(data.items, train))


def ridge_scores(data: RatingPairs, features: sp.csr_array | NDArray[np.floating]) -> Values:
    """(n,) scores predicted by a ridge regression on ``features`` (n, d)."""
    return _best_ridge(data, features)[0]


def ridge_weights(data: RatingPairs, features: NDArray[np.floating], offset: Values) -> tuple[Values, float]:
    """(d,) weights and intercept of a ridge regression of scores − ``offset`` (n,) on ``features`` (n, d)."""
    return _best_ridge(data, features, offset)[1:]


def tfidf(texts: Sequence[str], train: NDArray[np.bool_]) -> sp.csr_array:
    """(n, terms) TF-IDF of words and word pairs that occur in at least two training texts, rows of unit length; tf is
    1 + ln count, idf is scikit-learn's default."""
    counts = [Counter(_terms(text)) for text in texts]
    df = Counter(term for terms, in_train in zip(counts, train, strict=True) if in_train for term in terms)
    columns = {term: number for number, term in enumerate(sorted(term for term, times in df.items() if times > 1))}
    cells = [
        (row, columns[t], 1 + np.log(n)) for row, terms in enumerate(counts) for t, n in terms.items() if t in columns
    ]
    owner, column, tf = (np.array(part) for part in zip(*cells, strict=True)) if cells else (np.empty(0, int),) * 3
    idf = np.log((1 + train.sum()) / (1 + np.array([df[term] for term in columns] or [0]))) + 1
    values = sp.csr_array((tf * idf[column], (owner, column)), shape=(len(texts), max(1, len(columns))))
    norms = np.sqrt(values.multiply(values).sum(axis=1))
    return sp.csr_array(sp.diags_array(np.divide(1.0, norms, out=np.zeros(len(texts)), where=norms > 0)) @ values)


def _terms(text: str) -> list[str]:
    words = _WORD.findall(text.lower())
    return words + [f"{a} {b}" for a, b in zip(words[:-1], words[1:], strict=True)]


def _best_ridge(
    data: RatingPairs, features: sp.csr_array | NDArray[np.floating], offset: Values | float = 0.0
) -> tuple[Values, Values, float]:
    """(n,) scores, (d,) weights and intercept with the ridge penalty of the least MSE on validation."""
    train = np.flatnonzero(data.part == 0)
    residual = data.scores - offset
    mean = residual[train].mean()
    train_features, target = features[train], residual[train] - mean
    centre = np.asarray(train_features.mean(axis=0)).ravel()
    fits = []
    for ridge in RIDGES:
        weights = _solve_ridge(train_features, centre, target, ridge)
        fits.append((np.asarray(features @ weights).ravel() - centre @ weights + mean + offset, weights))
    best, weights = min(fits, key=lambda fit: data.errors(fit[0], 1)["mse"])
    return best, weights, float(mean - centre @ weights)


def _solve_ridge(x: sp.csr_array | NDArray[np.floating], centre: Values, target: Values, ridge: float) -> Values:
    """(XᵀX + ridge·I)⁻¹ Xᵀy with X = x − centre, which is never stored: it would not be sparse."""
    operator = sp.linalg.LinearOperator(
        (len(centre),) * 2,
        matvec=lambda v: x.T @ (x @ v - centre @ v) - centre * (x @ v - centre @ v).sum() + ridge * v,
        dtype=np.float64,
    )
    return cg(operator, x.T @ target - centre * target.sum(), rtol=1e-8, maxiter=2000)[0]


def _only_trained(rows: NDArray[np.int64], train: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The rows that occur in training; −1 for others."""
    return np.where(np.isin(rows, rows[train]), rows, -1)
