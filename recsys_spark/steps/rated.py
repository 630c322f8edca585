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

from recsys_spark.item_features import sample_of_users
from recsys_spark.kernels.rating_scores import neighbor_scores, text_scores
from recsys_spark.kernels.ratings import fit_ratings, mae, mse
from recsys_spark.kernels.vectors import Matrix

MOST_RATINGS = 1_000_000
"""Of larger data sets some users, drawn by a hash: what is compared here fits on the driver."""
MOST_ITEMS = 20_000
"""Neighbours need items² numbers; with more items they are left out."""
_SHRINK = 5.0
_FACTOR_SHRINK = 20.0
Values = NDArray[np.float64]


@dataclass(frozen=True)
class _Ratings:
    users: NDArray[np.int64]
    items: NDArray[np.int64]
    ratings: Values
    test: NDArray[np.bool_]


def rated(events: DataFrame, ids: pa.Array, vectors: Matrix, seed: int) -> dict[str, Any]:
    """Errors on one rating in four, drawn by a hash, of models fitted on the others; empty where nothing was rated.

    ``events``: with ``event_type`` and ``value``; ``ids`` and ``vectors`` of the items. r = mean + b_u + b_i + a·s by
    ridge, s the text (cosine of the user's other items, each times what its rating is above the biases, and the item)
    or the neighbours (ratings of similar items); ``user_factor`` is the article's form.
    """
    found = _read(events, ids, seed)
    if found is None or not found.test.any() or found.test.all():
        return {}
    train = ~found.test
    users, items, ratings = found.users[train], found.items[train], found.ratings[train]
    biases = fit_ratings(users, items, ratings, user_shrink=_SHRINK, item_shrink=_SHRINK)
    left = ratings - biases.predict(users, items)
    residuals = sp.csr_array((left, (users, items)), shape=(int(found.users.max()) + 1, len(ids)))
    errors = {"mean": _errors(np.full(int(found.test.sum()), ratings.mean()), found)}
    errors |= _calibrated("biases", found, None)
    errors |= _calibrated("user_factor", found, None, factor_shrink=_FACTOR_SHRINK)
    errors |= _calibrated("biases_and_text", found, lambda u, i: text_scores(residuals, vectors, u, i))
    if len(ids) <= MOST_ITEMS:
        errors |= _calibrated("biases_and_neighbours", found, lambda u, i: neighbor_scores(residuals, u, i))
    return {"train": int(train.sum()), "test": int(found.test.sum()), "errors": errors}


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


def _calibrated(
    name: str,
    found: _Ratings,
    scores: Callable[[NDArray[np.int64], NDArray[np.int64]], Values] | None,
    factor_shrink: float | None = None,
) -> dict[str, dict[str, float]]:
    train = ~found.test
    known = (found.users[train], found.items[train])
    asked = (found.users[found.test], found.items[found.test])
    fitted = fit_ratings(
        *known,
        found.ratings[train],
        None if scores is None else scores(*known),
        user_shrink=_SHRINK,
        item_shrink=_SHRINK,
        factor_shrink=factor_shrink,
    )
    return {name: _errors(fitted.predict(*asked, None if scores is None else scores(*asked), clip=True), found)}


def _errors(predicted: Values, found: _Ratings) -> dict[str, float]:
    error = mse(predicted, found.ratings[found.test]), mae(predicted, found.ratings[found.test])
    return {"mse": round(error[0], 4), "rmse": round(error[0] ** 0.5, 4), "mae": round(error[1], 4)}
