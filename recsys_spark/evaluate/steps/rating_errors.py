"""Errors of predicted ratings: how much biases, the text and other users' ratings explain."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.arrays.vectors import Matrix
from recsys_spark.evaluate.kernels.rating_features import neighbor_scores, text_scores
from recsys_spark.evaluate.kernels.rating_model import fit_ratings, mae, mse
from recsys_spark.hybrid.item_features import sample_of_users

MOST_RATINGS = 1_000_000
"""Larger data sets are sampled by user, with a hash, since the models are fitted on the driver."""

MOST_ITEMS = 20_000
"""With more items the neighbours are left out: their time grows with items²."""

_SHRINKS = (5.0, 1.0, 2.0, 10.0, 25.0)

_FACTOR_SHRINKS = (20.0, 5.0, 80.0)

_FOLDS = 4

Values = NDArray[np.float64]

_Score = Callable[[sp.csr_array, NDArray[np.int64], NDArray[np.int64]], Values]


@dataclass(frozen=True)
class _Ratings:
    """(n,) each: the row of the user, the row of the item, the rating, and whether it is for the test."""

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    ratings: Values
    test: NDArray[np.bool_]


def rating_errors(events: DataFrame, ids: pa.Array, vectors: Matrix, seed: int) -> dict[str, Any]:
    """Errors on one rating in four, drawn by a hash, of models fitted on the others.

    The models are r = mean + b_u + b_i + a·s, fitted by ridge regression. s is the text score (cosine of the item and
    the sum of the user's other items, each times its residual) or the neighbour score (ratings of similar items).
    ``user_factor`` adds the article's factor per user. Shrinks are chosen on folds of the training ratings.

    Args:
        events: with ``event_type`` and ``value``.
        ids: (n,) items.
        vectors: (n, d) unit vectors of the items.
        seed: of the hash.

    Returns:
        Sizes, errors by model and chosen shrinks; empty with fewer than four training ratings or without a test rating.
    """
    data = _read(events, ids, seed)
    if data is None or not data.test.any() or int((~data.test).sum()) < _FOLDS:
        return {}
    shrink = min(_SHRINKS, key=lambda value: _fold_error(data, value))
    factor = min(_FACTOR_SHRINKS, key=lambda value: _fold_error(data, shrink, value))
    errors = {"mean": _errors(np.full(int(data.test.sum()), data.ratings[~data.test].mean()), data)}
    errors |= {"biases": _calibrated(data, shrink), "user_factor": _calibrated(data, shrink, factor_shrink=factor)}
    errors["biases_and_text"] = _calibrated(
        data, shrink, lambda residuals, u, i: text_scores(residuals, vectors[: residuals.shape[1]], u, i)
    )
    if len(ids) <= MOST_ITEMS:
        errors["biases_and_neighbours"] = _calibrated(data, shrink, neighbor_scores)
    sizes = {"train": int((~data.test).sum()), "test": int(data.test.sum())}
    return sizes | {"errors": errors, "chosen": {"shrink": shrink, "factor_shrink": factor}}


def _read(events: DataFrame, ids: pa.Array, seed: int) -> _Ratings | None:
    ratings = events.where((F.col("event_type") == "rating") & F.col("value").isNotNull())
    share = MOST_RATINGS / max(ratings.count(), 1)
    is_test = F.pmod(F.xxhash64("user_id", "item_id", F.lit(seed)), F.lit(4)) == 0
    last = ratings.groupBy("user_id", "item_id").agg(F.max_by("value", "timestamp").alias("value"))
    rows = sample_of_users(last, share).withColumn("test", is_test).orderBy("user_id", "item_id").toArrow()
    if not rows.num_rows:
        return None
    rows = rows.filter(pc.is_in(rows["item_id"], ids))
    users = rows["user_id"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    items = pc.index_in(rows["item_id"], ids).to_numpy().astype(np.int64)
    return _Ratings(users, items, rows["value"].to_numpy(), rows["test"].to_numpy())


def _fold_error(data: _Ratings, shrink: float, factor_shrink: float | None = None) -> float:
    """Σ squared error over the training folds, of biases fitted on the other folds."""
    train, fold, total = np.flatnonzero(~data.test), _folds(data), 0.0
    for number in range(_FOLDS):
        others, rows = train[fold[train] != number], train[fold[train] == number]
        model = fit_ratings(
            data.users[others],
            data.items[others],
            data.ratings[others],
            user_shrink=shrink,
            item_shrink=shrink,
            factor_shrink=factor_shrink,
        )
        predicted = model.predict(data.users[rows], data.items[rows], clip=True)
        total += float(((predicted - data.ratings[rows]) ** 2).sum())
    return total


def _folds(data: _Ratings) -> NDArray[np.int64]:
    """(n,) the fold of each rating. Training ratings take turns, so that no fold is empty."""
    return np.maximum(np.cumsum(~data.test) - 1, 0) % _FOLDS


def _calibrated(
    data: _Ratings, shrink: float, score: _Score | None = None, factor_shrink: float | None = None
) -> dict[str, float]:
    """Errors on the test of ratings from biases and a score."""
    train = ~data.test
    scores = None if score is None else _out_of_fold_scores(data, shrink, score)
    train_scores, test_scores = (None, None) if scores is None else (scores[train], scores[data.test])
    model = fit_ratings(
        data.users[train],
        data.items[train],
        data.ratings[train],
        train_scores,
        user_shrink=shrink,
        item_shrink=shrink,
        factor_shrink=factor_shrink,
    )
    return _errors(model.predict(data.users[data.test], data.items[data.test], test_scores, clip=True), data)


def _out_of_fold_scores(data: _Ratings, shrink: float, score: _Score) -> Values:
    """(n,) scores from the residuals of the other training folds; for test ratings, from those of all of them.

    The residuals of one fit sum to 0 for a user. Scores from the residuals of the same fit would therefore predict a
    rating with the wrong sign, and their slope would be wrong.
    """
    train, fold, scores = ~data.test, _folds(data), np.empty(len(data.test))
    for number in range(_FOLDS):
        rows = train & (fold == number)
        residuals = _residuals(data, train & (fold != number), shrink)
        scores[rows] = score(residuals, data.users[rows], data.items[rows])
    residuals = _residuals(data, train, shrink)
    scores[data.test] = score(residuals, data.users[data.test], data.items[data.test])
    return scores


def _residuals(data: _Ratings, rows: NDArray[np.bool_], shrink: float) -> sp.csr_array:
    """(users, items): the ratings of ``rows`` minus the biases that are fitted on them."""
    users, items, ratings = data.users[rows], data.items[rows], data.ratings[rows]
    biases = fit_ratings(users, items, ratings, user_shrink=shrink, item_shrink=shrink)
    shape = int(data.users.max()) + 1, int(data.items.max()) + 1
    return sp.csr_array((ratings - biases.predict(users, items), (users, items)), shape=shape)


def _errors(predicted: Values, data: _Ratings) -> dict[str, float]:
    error = mse(predicted, data.ratings[data.test]), mae(predicted, data.ratings[data.test])
    return {"mse": round(error[0], 4), "rmse": round(error[0] ** 0.5, 4), "mae": round(error[1], 4)}
