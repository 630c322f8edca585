"""What a tuned encoder is compared with where scores are predicted: the mean, biases, words. No torch."""

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
"""Of these the best on validation."""

_SHRINKS = (1.0, 5.0, 25.0)

_SLOPES = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0)

_FOLDS = 10

_WORD = re.compile(r"\b\w\w+\b")


@dataclass(frozen=True)
class RatingPairs:
    """Pairs to learn scores from: ``texts``, ``scores`` (n,), ``users`` and ``items`` (n,) rows from 0, and ``part``
    (n,): 0 train, 1 validation, 2 test."""

    texts: list[str]
    scores: Values
    users: NDArray[np.int64]
    items: NDArray[np.int64]
    part: NDArray[np.int8]

    def errors(self, predicted: Values, part: int) -> dict[str, float]:
        """MSE and MAE, predictions kept within the range of the scores in training."""
        mine, known = self.part == part, self.scores[self.part == 0]
        within = np.clip(predicted[mine], known.min(), known.max())
        return {"mse": round(mse(within, self.scores[mine]), 4), "mae": round(mae(within, self.scores[mine]), 4)}


def baselines(data: RatingPairs) -> dict[str, Values]:
    """(n,) predicted scores by name, of models that saw the training part only; their ridges chosen on validation."""
    train, mean = data.part == 0, data.scores[data.part == 0].mean()
    return {
        "global_mean": np.full(len(train), mean),
        "user_item_bias": _biases(data, train, _best_shrink(data)),
        "tfidf_ridge": ridge_scores(data, tfidf(data.texts, train)),
    }


@dataclass(frozen=True)
class LinearRescale:
    """centre + slope · (score − centre) + shift: an expected score lies between what people give; where most give the
    highest, a stretched one is right more often and costs little squared error."""

    centre: float
    slope: float = 1.0
    shift: float = 0.0

    def apply(self, scores: Values) -> Values:
        """(n,) stretched."""
        return self.centre + self.slope * (scores - self.centre) + self.shift


def best_rescale(data: RatingPairs, predicted: Values) -> LinearRescale:
    """The one with the least MSE + MAE on validation, each as a share of what it was."""
    train, before = data.scores[data.part == 0], data.errors(predicted, 1)
    shifts = np.linspace(-1, 1, 21) * float(train.std())
    tried = [LinearRescale(float(train.mean()), slope, float(shift)) for slope in _SLOPES for shift in shifts]

    def cost(one: LinearRescale) -> float:
        after = data.errors(one.apply(predicted), 1)
        return sum(after[name] / max(before[name], 1e-9) for name in before)

    return min([LinearRescale(float(train.mean())), *tried], key=cost)


def out_of_fold_biases(data: RatingPairs) -> Values:
    """(n,) scores by the biases of user and item alone; those of training pairs by biases that have not seen them, so
    that what they leave is as large as it is for a new pair."""
    train, shrink = data.part == 0, _best_shrink(data)
    found = _biases(data, train, shrink)
    fold = np.random.default_rng(0).integers(0, _FOLDS, len(train))
    for number in range(_FOLDS):
        mine = train & (fold == number)
        if mine.any() and (train & ~mine).any():
            found[mine] = _biases(data, train & ~mine, shrink)[mine]
    return found


def _best_shrink(data: RatingPairs) -> float:
    train = data.part == 0
    return min(_SHRINKS, key=lambda shrink: data.errors(_biases(data, train, shrink), 1)["mse"])


def _biases(data: RatingPairs, train: NDArray[np.bool_], shrink: float) -> Values:
    """(n,) scores by biases that were fitted on some pairs."""
    of = fit_ratings(data.users[train], data.items[train], data.scores[train], user_shrink=shrink, item_shrink=shrink)
    return of.predict(_known(data.users, train), _known(data.items, train))


def ridge_scores(data: RatingPairs, features: sp.csr_array | NDArray[np.floating]) -> Values:
    """(n,) scores by a ridge regression on features (n, d)."""
    return _best_ridge(data, features)[0]


def ridge_weights(data: RatingPairs, features: NDArray[np.floating], offset: Values) -> tuple[Values, float]:
    """(d,) weights and the constant of the same regression on what ``offset`` (n,) leaves of the scores."""
    return _best_ridge(data, features, offset)[1:]


def tfidf(texts: Sequence[str], train: NDArray[np.bool_]) -> sp.csr_array:
    """(n, words) TF-IDF of words and pairs of words that stand in two training texts or more, rows of unit length;
    1 + ln tf, idf as scikit-learn's default."""
    counted = [Counter(_terms(text)) for text in texts]
    df = Counter(term for terms, known in zip(counted, train, strict=True) if known for term in terms)
    place = {term: number for number, term in enumerate(sorted(term for term, times in df.items() if times > 1))}
    rows = [(row, place[t], 1 + np.log(n)) for row, terms in enumerate(counted) for t, n in terms.items() if t in place]
    owner, column, tf = (np.array(part) for part in zip(*rows, strict=True)) if rows else (np.empty(0, int),) * 3
    idf = np.log((1 + train.sum()) / (1 + np.array([df[term] for term in place] or [0]))) + 1
    values = sp.csr_array((tf * idf[column], (owner, column)), shape=(len(texts), max(1, len(place))))
    norms = np.sqrt(values.multiply(values).sum(axis=1))
    return sp.csr_array(sp.diags_array(np.divide(1.0, norms, out=np.zeros(len(texts)), where=norms > 0)) @ values)


def _terms(text: str) -> list[str]:
    words = _WORD.findall(text.lower())
    return words + [f"{a} {b}" for a, b in zip(words[:-1], words[1:], strict=True)]


def _best_ridge(
    data: RatingPairs, features: sp.csr_array | NDArray[np.floating], offset: Values | float = 0.0
) -> tuple[Values, Values, float]:
    train = np.flatnonzero(data.part == 0)
    left = data.scores - offset
    mean = left[train].mean()
    known, target = features[train], left[train] - mean
    centre = np.asarray(known.mean(axis=0)).ravel()
    found = []
    for ridge in RIDGES:
        weights = _solved(known, centre, target, ridge)
        found.append((np.asarray(features @ weights).ravel() - centre @ weights + mean + offset, weights))
    best, weights = min(found, key=lambda one: data.errors(one[0], 1)["mse"])
    return best, weights, float(mean - centre @ weights)


def _solved(known: sp.csr_array | NDArray[np.floating], centre: Values, target: Values, ridge: float) -> Values:
    """(XᵀX + ridge·I)⁻¹ Xᵀy with centred X, which is never made: it would not be sparse."""
    operator = sp.linalg.LinearOperator(
        (len(centre),) * 2,
        matvec=lambda v: known.T @ (known @ v - centre @ v) - centre * (known @ v - centre @ v).sum() + ridge * v,
        dtype=np.float64,
    )
    return cg(operator, known.T @ target - centre * target.sum(), rtol=1e-8, maxiter=2000)[0]


def _known(rows: NDArray[np.int64], train: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Rows that training has; −1 for others."""
    return np.where(np.isin(rows, rows[train]), rows, -1)
