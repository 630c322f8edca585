"""Scorers that evaluation compares: histories to scores of all items. A catalogue must fit into one process."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys_spark.arrays.vectors import Matrix, unit_rows

Rows = NDArray[np.int64]

MIXED_BEST = 200
"""Greatest scores of a user by whose spread a mixed scorer divides."""

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class UserHistories:
    """The histories of a batch of users.

    Args:
        weights: (users, n) the summed weight of the events with each item.
        items: (e,) the item of each event, each user's oldest first.
        offsets: (users + 1,) where each user's events begin, and the end of the last.
    """

    weights: sp.csr_array
    items: Rows
    offsets: Rows


class Scorer(Protocol):
    """Scores all n items for a batch of users, from their histories."""

    def scores(self, histories: UserHistories) -> Matrix:
        """(users, n) float32."""


@dataclass(frozen=True)
class ItemScores:
    """The same scores for all users, such as popularity."""

    values: NDArray[np.float32]

    def scores(self, histories: UserHistories) -> Matrix:
        """(users, n)."""
        return np.tile(self.values, (histories.weights.shape[0], 1))


@dataclass(frozen=True)
class OwnHistory:
    """The items of the history in the order of their summed event weights, then all others by ``popularity``, (n,)."""

    popularity: NDArray[np.float32]

    def scores(self, histories: UserHistories) -> Matrix:
        """(users, n): at least 2 for items of the history, 0 to 1 for all others."""
        least, most = self.popularity.min(initial=np.inf), self.popularity.max(initial=-np.inf)
        own = histories.weights.tocoo()
        scores = np.tile((self.popularity - least) / max(most - least, 1e-12), (own.shape[0], 1))
        # Weights of old events are too small for a float32; their logarithms are not.
        levels, lowest = np.log2(np.maximum(own.data, 5e-324)), np.full(own.shape[0], np.inf)
        np.minimum.at(lowest, own.row, levels)
        scores[own.row, own.col] = 2 + levels - lowest[own.row]
        return scores.astype(np.float32)


@dataclass(frozen=True)
class ItemWeights:
    """Σ over the history of event weight · pair weight. ``weights``: (n, n), column = scored item."""

    weights: sp.csr_array | Matrix

    def scores(self, histories: UserHistories) -> Matrix:
        """(users, n)."""
        if isinstance(self.weights, sp.csr_array):
            return sp.csr_array(histories.weights @ self.weights).astype(np.float32).toarray()
        return np.asarray(histories.weights.astype(np.float32) @ self.weights)  # float64 would copy the whole matrix


@dataclass(frozen=True)
class ItemVectors:
    """Cosine of the pooled history and each item. ``vectors``: (n, d) unit rows, dense or sparse."""

    vectors: sp.csr_array | Matrix

    def scores(self, histories: UserHistories) -> Matrix:
        """(users, n); 0 for a history of items without vectors."""
        pooled = histories.weights @ self.vectors
        if not isinstance(pooled, sp.csr_array):
            return unit_rows(np.asarray(pooled)) @ np.asarray(self.vectors).T
        norms = np.sqrt(np.asarray(pooled.multiply(pooled).sum(axis=1)).ravel())
        products = (pooled @ self.vectors.T).toarray()
        return (products / np.where(norms > 0, norms, 1)[:, None]).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Mixed:
    """``first`` + weight · ``second``, each divided by the standard deviation of the user's ``MIXED_BEST`` greatest
    scores of items that are not in the history."""

    first: Scorer
    second: Scorer
    weight: float

    def scores(self, histories: UserHistories) -> Matrix:
        """(users, n)."""
        first, second = (over_spread(scorer.scores(histories), histories) for scorer in (self.first, self.second))
        return np.asarray(first + np.float32(self.weight) * second)


def over_spread(scores: Matrix, histories: UserHistories) -> Matrix:
    """(users, n) scores over the standard deviation of the user's greatest ones of items not in the history."""
    unseen, seen = scores.copy(), histories.weights.tocoo()
    unseen[seen.row, seen.col] = -np.inf
    size = min(MIXED_BEST, scores.shape[1])
    best = np.partition(unseen, scores.shape[1] - size, axis=1)[:, -size:]
    spread = np.nanstd(np.where(np.isneginf(best), np.nan, best), axis=1, keepdims=True)
    return np.asarray(scores / np.where(spread > 0, spread, 1).astype(np.float32))


def item_knn(gram: sp.csr_array, neighbors: int, shrink: float) -> sp.csr_array:
    """(n, n) shrunk co-occurrence cosines of the nearest neighbours of each item; 0 on the diagonal.

    ``gram``: users in common, and on the diagonal the users of an item. Sarwar et al., WWW 2001.
    """
    counts, parts = gram.diagonal(), []
    for first in range(0, gram.shape[0], _ROWS_AT_ONCE):
        rows = np.arange(first, min(first + _ROWS_AT_ONCE, gram.shape[0]))
        cosines = gram[rows].toarray() / (np.sqrt(np.outer(counts[rows], counts)) + shrink + 1e-12)
        cosines[rows - first, rows] = 0
        if neighbors < cosines.shape[1]:
            least = np.partition(cosines, -neighbors, axis=1)[:, -neighbors]
            cosines[cosines < least[:, None]] = 0
        parts.append(sp.csr_array(cosines))
    return sp.csr_array(sp.vstack(parts).T)


def ease(gram: NDArray[np.float32], ridge: float) -> Matrix:
    """(n, n) weights of the closed form −P / diag(P), P = (G + λI)⁻¹; 0 on the diagonal. Overwrites ``gram``.

    Steck, Embarrassingly Shallow Autoencoders, WWW 2019. Items without features have weights 0 in both directions; they
    are left out of the inverse, whose time grows with the cube of its size.

    Raises:
        ValueError: the ridge is too small for an inverse in float32.
    """
    counted = np.flatnonzero(gram.diagonal() > 0)
    if len(counted) < len(gram):
        weights = np.zeros_like(gram)
        weights[np.ix_(counted, counted)] = ease(gram[np.ix_(counted, counted)], ridge) if len(counted) else 0
        return weights
    gram[np.diag_indices_from(gram)] += np.float32(ridge)
    factor, factor_fault = scipy.linalg.lapack.spotrf(gram, lower=1, overwrite_a=1)
    inverse, inverse_fault = scipy.linalg.lapack.spotri(factor, lower=1, overwrite_c=1)
    if factor_fault or inverse_fault:
        raise ValueError(f"a ridge of {ridge} is too small: the Gram matrix has no inverse in float32")
    lower = np.tril(inverse)
    weights = lower + np.tril(lower, -1).T
    weights /= -np.diag(weights).copy()
    np.fill_diagonal(weights, 0)
    return weights


def hybrid_gram(
    gram: sp.csr_array, words: sp.csr_array, vectors: Matrix, *, word_weight: float, vector_weight: float
) -> NDArray[np.float32]:
    """(n, n) inner products of the features of ``item_weights``: users in common, words and vectors.

    With this matrix, ``ease`` is the closed form that ``item_weights`` approximates by a small ridge fit per item.
    """
    total = gram.astype(np.float32).toarray()
    for first in range(0, len(total), _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        total[rows] += np.float32(word_weight) * sp.csr_array(words[rows] @ words.T).astype(np.float32).toarray()
        total[rows] += np.float32(vector_weight) * (vectors[rows] @ vectors.T)
    return total


def co_occurrence_gram(histories: sp.csr_array) -> sp.csr_array:
    """(n, n) users in common, from a (users, n) matrix of ones."""
    return sp.csr_array(histories.T @ histories)


def target_ranks(
    scores: Matrix,
    seen: tuple[NDArray[np.int64], NDArray[np.int64]],
    owners: NDArray[np.int64],
    targets: NDArray[np.int64],
    *,
    rank_seen: bool = False,
) -> NDArray[np.float64]:
    """(R,) rank, from 1, of each target among all items: 1 + items with greater scores + half of the other ties.

    Args:
        scores: (users, n) finite; overwritten.
        seen: rows and columns of items that are not ranked. A target among them has rank infinity.
        owners, targets: (R,) the row of the user and the item of each target.
        rank_seen: targets among ``seen`` stay in the ranking instead.
    """
    target_scores = scores[owners, targets]
    scores[seen] = -np.inf
    if rank_seen:
        scores[owners, targets] = target_scores
    else:
        target_scores = scores[owners, targets]
    ranks = np.empty(len(targets))
    for start in range(0, len(targets), _ROWS_AT_ONCE // 4):  # fits into a processor cache
        part = slice(start, start + _ROWS_AT_ONCE // 4)
        rows, level = scores[owners[part]], target_scores[part, None]
        greater = np.count_nonzero(rows > level, axis=1)
        equal = np.count_nonzero(rows == level, axis=1)
        ranks[part] = 1 + greater + (equal - 1) / 2
    return np.where(np.isneginf(target_scores), np.inf, ranks)
