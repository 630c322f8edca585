"""What evaluation compares: scores of all items for histories, and the models that give them on catalogues that fit
into one process."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys_spark.arrays.vectors import Matrix, unit_rows

Rows = NDArray[np.int64]

_ROWS = 1024


class Scorer(Protocol):
    """Scores all n items for some users; their histories are (users, n), what each event counts."""

    def scores(self, histories: sp.csr_array) -> Matrix:
        """(users, n) float32."""


@dataclass(frozen=True)
class ItemScores:
    """The same for everybody, e.g. popularity."""

    values: NDArray[np.float32]

    def scores(self, histories: sp.csr_array) -> Matrix:
        """(users, n)."""
        return np.tile(self.values, (histories.shape[0], 1))


@dataclass(frozen=True)
class ItemWeights:
    """Σ over the history of what an event counts times the weight of the pair: (n, n), column = scored item."""

    weights: sp.csr_array | Matrix

    def scores(self, histories: sp.csr_array) -> Matrix:
        """(users, n)."""
        if isinstance(self.weights, sp.csr_array):
            return sp.csr_array(histories @ self.weights).astype(np.float32).toarray()
        return np.asarray(histories.astype(np.float32) @ self.weights)  # in float64 the whole matrix would be copied


@dataclass(frozen=True)
class ItemVectors:
    """Cosine of the pooled history and each item: (n, d) unit rows, dense or sparse."""

    vectors: sp.csr_array | Matrix

    def scores(self, histories: sp.csr_array) -> Matrix:
        """(users, n); a history of items without a vector scores 0."""
        pooled = histories @ self.vectors
        if not isinstance(pooled, sp.csr_array):
            return unit_rows(np.asarray(pooled)) @ np.asarray(self.vectors).T
        norms = np.sqrt(np.asarray(pooled.multiply(pooled).sum(axis=1)).ravel())
        found = (pooled @ self.vectors.T).toarray()
        return (found / np.where(norms > 0, norms, 1)[:, None]).astype(np.float32)


def item_knn(gram: sp.csr_array, neighbors: int, shrink: float) -> sp.csr_array:
    """(n, n) cosines of co-occurrence, shrunk, of each item's nearest neighbours; 0 on the diagonal.

    ``gram``: users in common; the diagonal counts an item's users. Sarwar et al., WWW 2001.
    """
    counts, parts = gram.diagonal(), []
    for first in range(0, gram.shape[0], _ROWS):
        own = np.arange(first, min(first + _ROWS, gram.shape[0]))
        near = gram[own].toarray() / (np.sqrt(np.outer(counts[own], counts)) + shrink + 1e-12)
        near[own - first, own] = 0
        if neighbors < near.shape[1]:
            least = np.partition(near, -neighbors, axis=1)[:, -neighbors]
            near[near < least[:, None]] = 0
        parts.append(sp.csr_array(near))
    return sp.csr_array(sp.vstack(parts).T)


def ease(gram: NDArray[np.float32], ridge: float) -> Matrix:
    """(n, n) weights of the closed form −P / diag(P), P = (G + λI)⁻¹, 0 on the diagonal; ``gram`` is overwritten.

    Steck, Embarrassingly Shallow Autoencoders, WWW 2019.
    """
    gram[np.diag_indices_from(gram)] += np.float32(ridge)
    factor, failed = scipy.linalg.lapack.spotrf(gram, lower=1, overwrite_a=1)
    inverse, failed_too = scipy.linalg.lapack.spotri(factor, lower=1, overwrite_c=1)
    if failed or failed_too:
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

    With it, ``ease`` is the closed form that small ridges, item by item, stand for.
    """
    total = gram.astype(np.float32).toarray()
    for first in range(0, len(total), _ROWS):
        own = slice(first, first + _ROWS)
        total[own] += np.float32(word_weight) * sp.csr_array(words[own] @ words.T).astype(np.float32).toarray()
        total[own] += np.float32(vector_weight) * (vectors[own] @ vectors.T)
    return total


def co_occurrence_gram(histories: sp.csr_array) -> sp.csr_array:
    """(n, n) users in common, from (users, n) ones."""
    return sp.csr_array(histories.T @ histories)


def target_ranks(
    scores: Matrix,
    seen: tuple[NDArray[np.int64], NDArray[np.int64]],
    owners: NDArray[np.int64],
    targets: NDArray[np.int64],
) -> NDArray[np.float64]:
    """(R,) rank, from 1, of each target among all items: one more than those of greater score, and half of the others
    that tie. Items ``seen`` (rows, columns) do not count, unless they are targets; ``scores`` is overwritten."""
    own = scores[owners, targets]
    scores[seen] = -np.inf
    scores[owners, targets] = own  # bought again
    ranks = np.empty(len(targets))
    for start in range(0, len(targets), _ROWS // 4):  # what fits into a cache
        part = slice(start, start + _ROWS // 4)
        rows, level = scores[owners[part]], own[part, None]
        greater = np.count_nonzero(rows > level, axis=1)
        equal = np.count_nonzero(rows == level, axis=1)
        ranks[part] = 1 + greater + (equal - 1) / 2
    return ranks
