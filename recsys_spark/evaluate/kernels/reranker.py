"""Rank the best candidates of a mixed scorer again, by small boosted trees over the scores of its parts.

The trees (XGBoost, Chen and Guestrin, KDD 2016) learn from histories that end one event earlier. They are small, for
there are some thousand examples. No feature knows the order of ids.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys_spark.arrays.vectors import Matrix
from recsys_spark.evaluate.kernels.labelled_events import LabelledEvents
from recsys_spark.evaluate.kernels.scorers import Rows, Scorer, UserHistories, over_spread

CANDIDATES = 200
"""Items of a user that are ranked again."""

_SEQUENCE_WEIGHT = 0.4
"""Weight of the sequence encoder beside the hybrid in the score that chooses the candidates."""

_OTHERS = 1e3
"""All other items come after the candidates."""

_TREES = {
    "objective": "binary:logistic",
    "tree_method": "hist",
    "grow_policy": "lossguide",
    "max_depth": 0,
    "max_leaves": 7,
    "eta": 0.05,
    "min_child_weight": 20,
    "subsample": 0.8,
    "colsample_bytree": 0.7,
    "nthread": 1,  # gradients are added up in the same order everywhere
}

_ROUNDS = 120

_USERS_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Parts:
    """What the features of a candidate come from; ``popularity`` (n,) users of each item."""

    hybrid: Scorer
    sequential: Scorer
    vectors: Scorer
    words: Scorer
    popularity: NDArray[np.int64]

    def candidates(self, histories: UserHistories) -> tuple[Rows, NDArray[np.float32], Matrix]:
        """(u, c) best items that are not in the history; their (u, c, F) features; the (u, n) mixed score.

        Where fewer items are left than c, the last ones are those of the history, and their features are NaN.
        """
        scores = {name: getattr(self, name).scores(histories) for name in ("hybrid", "sequential", "vectors", "words")}
        hybrid, sequential = (over_spread(scores[name], histories) for name in ("hybrid", "sequential"))
        mixed = hybrid + np.float32(_SEQUENCE_WEIGHT) * sequential
        unseen, own = mixed.copy(), histories.weights.tocoo()
        unseen[own.row, own.col] = -np.inf
        items = np.argsort(-unseen, axis=1, kind="stable")[:, :CANDIDATES]
        recent, last = (self.hybrid.scores(_weighted(histories, decay)) for decay in (0.5, 0.0))
        nearest = self.vectors.scores(_weighted(histories, 0.0))
        popular = np.log1p(np.asarray(self.popularity, np.float32))
        own_popularity = sp.csr_array(histories.weights > 0).astype(np.float32) @ popular
        sizes = np.maximum(np.diff(histories.weights.indptr), 1)
        columns: list[NDArray[np.floating]] = [_of(mixed, items)]
        for one in (hybrid, sequential):
            columns += [_of(one, items), _below_best(one, items), np.log1p(_places(_of(one, items)))]
        for one in (scores["vectors"], scores["words"]):
            columns += [_of(one, items), _below_best(one, items)]
        columns += [_of(one, items) for one in (over_spread(recent, histories), over_spread(last, histories), nearest)]
        columns += [popular[items], popular[items] - (own_popularity / sizes)[:, None]]
        columns += [np.broadcast_to(np.log1p(np.diff(histories.offsets))[:, None], items.shape)]
        features = np.stack([np.asarray(column, np.float32) for column in columns], axis=-1)
        features[np.isneginf(_of(unseen, items))] = np.nan
        return items, features, mixed


@dataclass(frozen=True, eq=False)
class Reranked:
    """Candidates by the trees' log-odds, then all other items by the mixed score. ``model``: the trees, (bytes,)."""

    hybrid: Scorer
    sequential: Scorer
    vectors: Scorer
    words: Scorer
    popularity: NDArray[np.int64]
    model: NDArray[np.uint8]

    def scores(self, histories: UserHistories) -> Matrix:
        """(users, n); 0 for users without a history."""
        import xgboost

        trees = xgboost.Booster({"nthread": 1})
        trees.load_model(bytearray(np.asarray(self.model).tobytes()))
        parts = Parts(self.hybrid, self.sequential, self.vectors, self.words, self.popularity)
        found = []
        for batch in _batches(histories):
            items, features, mixed = parts.candidates(batch)
            flat = features.reshape(-1, features.shape[-1])
            margins = trees.inplace_predict(flat, predict_type="margin", validate_features=False)
            scores = mixed - mixed.max(axis=1, keepdims=True) - np.float32(_OTHERS)
            unseen = ~np.isnan(features[:, :, 0])
            ranked = np.where(unseen, np.asarray(margins).reshape(items.shape), _of(scores, items))
            np.put_along_axis(scores, items, ranked.astype(np.float32), axis=1)
            scores[np.diff(batch.offsets) == 0] = 0
            found.append(scores)
        return np.concatenate(found)


def examples(parts: Parts, events: LabelledEvents, decay: float) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(e, c, F) features of the candidates of users whose next item is among them; and (e, c) which one that is.

    ``decay``: each newer event multiplies the weight of an event by it.
    """
    features, chosen = [], []
    for users in events.batches(_USERS_AT_ONCE):
        is_target = np.zeros((len(users.offsets) - 1, len(parts.popularity)), np.bool_)
        is_target[users.target_owner, users.targets] = True
        unweighted = UserHistories(sp.csr_array(is_target.shape), users.items, users.offsets)
        items, rows, _ = parts.candidates(_weighted(unweighted, decay))
        hits = np.take_along_axis(is_target, items, axis=1)
        useful = hits.any(axis=1)
        features.append(rows[useful])
        chosen.append(hits[useful])
    if not features:
        return np.empty((0, 0, 0), np.float32), np.empty((0, 0), np.bool_)
    return np.concatenate(features), np.concatenate(chosen)


def fit_reranker(features: NDArray[np.float32], chosen: NDArray[np.bool_], seed: int = 0) -> NDArray[np.uint8]:
    """Trees (UBJSON, as numbers of bytes) that give the log-odds of being chosen. Shapes as in ``examples``."""
    import xgboost

    rows = features.reshape(-1, features.shape[-1])
    data = xgboost.DMatrix(rows, chosen.reshape(-1).astype(np.float32), nthread=1)
    trees = xgboost.train(_TREES | {"seed": seed}, data, _ROUNDS)
    return np.frombuffer(bytes(trees.save_raw("ubj")), np.uint8)


def _batches(histories: UserHistories) -> Iterator[UserHistories]:
    for start in range(0, histories.weights.shape[0], _USERS_AT_ONCE):
        offsets = histories.offsets[start : start + _USERS_AT_ONCE + 1]
        items = histories.items[offsets[0] : offsets[-1]]
        yield UserHistories(histories.weights[start : start + _USERS_AT_ONCE], items, offsets - offsets[0])


def _weighted(histories: UserHistories, decay: float) -> UserHistories:
    """The same histories, each newer event multiplying the weight of an event by ``decay``; 0: the last event only."""
    owner = np.repeat(np.arange(len(histories.offsets) - 1), np.diff(histories.offsets))
    newer = histories.offsets[1:][owner] - 1 - np.arange(len(owner))
    weights = sp.csr_array((float(decay) ** newer, (owner, histories.items)), shape=histories.weights.shape)
    weights.eliminate_zeros()
    return UserHistories(weights, histories.items, histories.offsets)


def _of(scores: Matrix, items: Rows) -> Matrix:
    return np.asarray(np.take_along_axis(scores, items, axis=1))


def _below_best(scores: Matrix, items: Rows) -> Matrix:
    values = _of(scores, items)
    return np.asarray(values - values.max(axis=1, keepdims=True))


def _places(values: Matrix) -> Rows:
    """(u, c) the place of each value among those of its row, 0 for the greatest."""
    order = np.argsort(-values, axis=1, kind="stable")
    return np.argsort(order, axis=1, kind="stable")
