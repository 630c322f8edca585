"""Predicted ratings against given ones: what biases, the text and other users' ratings each explain."""

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
"""Of larger data sets some users, drawn by a hash: what is compared here fits on the driver."""

MOST_ITEMS = 20_000
"""Neighbours need items² numbers; with more items they are left out."""

_SHRINKS = (5.0, 1.0, 2.0, 10.0, 25.0)

_FACTOR_SHRINKS = (20.0, 5.0, 80.0)

_FOLDS = 4

Values = NDArray[np.float64]

_Score = Callable[[sp.csr_array, NDArray[np.int64], NDArray[np.int64]], Values]


@dataclass(frozen=True)
class _Ratings:
    users: NDArray[np.int64]
    items: NDArray[np.int64]
    ratings: Values
    test: NDArray[np.bool_]


def rating_errors(events: DataFrame, ids: pa.Array, vectors: Matrix, seed: int) -> dict[str, Any]:
    """Errors on one rating in four, drawn by a hash, of models fitted on the others; empty where fewer than four are
    left to fit on, or none to test.

    ``events``: with ``event_type`` and ``value``; ``ids`` and ``vectors`` of the items. r = mean + b_u + b_i + a·s by
    ridge, s the text (cosine of the user's other items, each times what its rating is above the biases, and the item)
    or the neighbours (ratings of similar items); ``user_factor`` is the article's form. Shrinks are chosen on folds of
    the fitted ratings.
    """
    found = _read(events, ids, seed)
    if found is None or not found.test.any() or int((~found.test).sum()) < _FOLDS:
        return {}
    shrink = min(_SHRINKS, key=lambda one: _over_folds(found, one))
    factor = min(_FACTOR_SHRINKS, key=lambda one: _over_folds(found, shrink, one))
    errors = {"mean": _errors(np.full(int(found.test.sum()), found.ratings[~found.test].mean()), found)}
    errors |= {"biases": _calibrated(found, shrink), "user_factor": _calibrated(found, shrink, factor_shrink=factor)}
    errors["biases_and_text"] = _calibrated(
        found, shrink, lambda left, u, i: text_scores(left, vectors[: left.shape[1]], u, i)
    )
    if len(ids) <= MOST_ITEMS:
        errors["biases_and_neighbours"] = _calibrated(found, shrink, neighbor_scores)
    sizes = {"train": int((~found.test).sum()), "test": int(found.test.sum())}
    return sizes | {"errors": errors, "chosen": {"shrink": shrink, "factor_shrink": factor}}


def _read(events: DataFrame, ids: pa.Array, seed: int) -> _Ratings | None:
    given = events.where((F.col("event_type") == "rating") & F.col("value").isNotNull())
    share = MOST_RATINGS / max(given.count(), 1)
    drawn = F.pmod(F.xxhash64("user_id", "item_id", F.lit(seed)), F.lit(4)) == 0
    last = given.groupBy("user_id", "item_id").agg(F.max_by("value", "timestamp").alias("value"))
    rows = sample_of_users(last, share).withColumn("test", drawn).orderBy("user_id", "item_id").toArrow()
    if not rows.num_rows:
        return None
    rows = rows.filter(pc.is_in(rows["item_id"], ids))
    users = rows["user_id"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    items = pc.index_in(rows["item_id"], ids).to_numpy().astype(np.int64)
    return _Ratings(users, items, rows["value"].to_numpy(), rows["test"].to_numpy())


def _over_folds(found: _Ratings, shrink: float, factor_shrink: float | None = None) -> float:
    """The squared errors on each fold of the training of biases fitted on the others, added up."""
    train, fold, total = np.flatnonzero(~found.test), _folds(found), 0.0
    for number in range(_FOLDS):
        known, own = train[fold[train] != number], train[fold[train] == number]
        fitted = fit_ratings(
            found.users[known],
            found.items[known],
            found.ratings[known],
            user_shrink=shrink,
            item_shrink=shrink,
            factor_shrink=factor_shrink,
        )
        predicted = fitted.predict(found.users[own], found.items[own], clip=True)
        total += float(((predicted - found.ratings[own]) ** 2).sum())
    return total


def _folds(found: _Ratings) -> NDArray[np.int64]:
    """The fold of each rating: those of the training in turns, so that no fold is empty."""
    return np.maximum(np.cumsum(~found.test) - 1, 0) % _FOLDS


def _calibrated(
    found: _Ratings, shrink: float, score: _Score | None = None, factor_shrink: float | None = None
) -> dict[str, float]:
    """The errors on the test. The slope of a score is fitted on scores that know nothing of their own fold: residuals
    of one fit sum to 0 for a user, so that others would tell a rating with the wrong sign."""
    train, fold = ~found.test, _folds(found)
    scores = None if score is None else np.empty(len(found.test))
    if scores is not None and score is not None:
        for number in range(_FOLDS):
            own = train & (fold == number)
            left = _residuals(found, train & (fold != number), shrink)
            scores[own] = score(left, found.users[own], found.items[own])
        left = _residuals(found, train, shrink)
        scores[found.test] = score(left, found.users[found.test], found.items[found.test])
    known, asked = (
        (found.users[rows], found.items[rows], None if scores is None else scores[rows]) for rows in (train, found.test)
    )
    users, items, given = known
    fitted = fit_ratings(
        users,
        items,
        found.ratings[train],
        given,
        user_shrink=shrink,
        item_shrink=shrink,
        factor_shrink=factor_shrink,
    )
    return _errors(fitted.predict(*asked, clip=True), found)


def _residuals(found: _Ratings, rows: NDArray[np.bool_], shrink: float) -> sp.csr_array:
    """(users, items) what the biases of some ratings leave of them."""
    users, items, ratings = found.users[rows], found.items[rows], found.ratings[rows]
    biases = fit_ratings(users, items, ratings, user_shrink=shrink, item_shrink=shrink)
    shape = int(found.users.max()) + 1, int(found.items.max()) + 1
    return sp.csr_array((ratings - biases.predict(users, items), (users, items)), shape=shape)


def _errors(predicted: Values, found: _Ratings) -> dict[str, float]:
    error = mse(predicted, found.ratings[found.test]), mae(predicted, found.ratings[found.test])
    return {"mse": round(error[0], 4), "rmse": round(error[0] ** 0.5, 4), "mae": round(error[1], 4)}
