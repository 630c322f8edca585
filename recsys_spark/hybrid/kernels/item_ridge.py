"""Item-item weights by one small ridge regression per item, on a support of candidates.

The features of an item are concatenated: its users (sparse, one column per user), its words (sparse TF-IDF) and
its embedding (dense), each scaled by the square root of its weight. With Z the features of the support and z those of
the target, the weights solve (Z·Zᵀ + λI) w = Z·z: co-occurrence and text in one Gram matrix. With all other items as
support and no text this is EASE (Steck, WWW 2019).
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys_spark.arrays.vectors import Matrix

Rows = NDArray[np.int64]

_AT_ONCE = 64


@dataclass(frozen=True)
class Features:
    """Of m items: ``users`` (m, U) of ones, or of the roots of their trust; ``words`` (m, V) and ``vectors`` (m, d)
    with unit rows, those of distrusted items shorter, or zero rows."""

    users: sp.csr_array
    words: sp.csr_array
    vectors: Matrix


def co_occurrence(
    common: NDArray[np.float64], count: NDArray[np.float64], counts: NDArray[np.float64], shrink: float
) -> NDArray[np.float64]:
    """Cosine of two items by their users, shrunk towards 0: common / (√(count · counts) + shrink)."""
    return common / (np.sqrt(count * counts) + shrink)


def supports(
    features: Features, targets: Rows, candidates: Rows, size: int, *, shrink: float, text_share: float
) -> Rows:
    """Choose the best candidates of each target.

    The criterion is co-occurrence + text_share · mean of both text cosines; of equal ones the first.

    Args:
        features: of m items.
        targets: (t,) rows of ``features``.
        candidates: (t, c) rows of ``features``, ascending, −1 for none.
        size: maximum number of candidates to choose.
        shrink: as for ``co_occurrence``, in users.
        text_share: weight of the text cosines.

    Returns:
        (t, size) rows, ascending, padded with −1 at the end.
    """
    counts = np.asarray(features.users.multiply(features.users).sum(axis=1), np.float64).ravel()
    users, words = _Lookup(features.users), _Lookup(features.words)
    chosen = np.full((len(targets), size), -1, np.int64)
    for number, (target, row) in enumerate(zip(targets, candidates, strict=True)):
        valid = row[row >= 0]
        text = features.vectors[valid].astype(np.float64) @ features.vectors[target].astype(np.float64)
        text += words.products(target, valid)
        co = co_occurrence(users.products(target, valid), counts[target], counts[valid], shrink)
        best = np.sort(valid[np.argsort(-(co + text_share / 2 * text), kind="stable")[:size]])
        chosen[number, : len(best)] = best
    return chosen


def ridge_weights(
    features: Features,
    targets: Rows,
    supports: Rows,
    *,
    vector_weight: float,
    word_weight: float,
    ridge: float,
    user_weight: float = 1.0,
) -> NDArray[np.float32]:
    """Solve the ridge regression of each target on its support: (t, K) weights.

    Args:
        features: of m items.
        targets: (t,) rows.
        supports: (t, K) rows without the target itself; −1 where a support is shorter: its weight is 0.
        vector_weight, word_weight: number of common users that a cosine of 1 is worth.
        ridge: λ > 0, in users.
        user_weight: weight of a common user.
    """
    scaled = [np.sqrt(user_weight) * features.users, np.sqrt(word_weight) * features.words]
    sparse = _Lookup(sp.csr_array(sp.hstack(scaled, format="csr")))
    count, width = supports.shape
    weights = np.zeros((count, width), np.float32)
    for first in range(0, count, _AT_ONCE):
        part = slice(first, min(first + _AT_ONCE, count))
        rows = np.column_stack([supports[part], targets[part]])
        systems = np.stack([_gram(sparse, features.vectors, vector_weight, row) for row in rows])
        grams, products = systems[:, :width, :width], systems[:, :width, width:]
        grams[:, np.arange(width), np.arange(width)] += ridge
        weights[part] = np.linalg.solve(grams, products)[..., 0]
    return weights


def _gram(sparse: "_Lookup", vectors: Matrix, vector_weight: float, rows: Rows) -> NDArray[np.float64]:
    """Inner products of the rows in float64; those of a row −1 are 0."""
    valid = np.flatnonzero(rows >= 0)
    sparse_rows, wide = sparse.rows(rows[valid]), vectors[rows[valid]].astype(np.float64)
    gram = np.zeros((len(rows), len(rows)))
    gram[np.ix_(valid, valid)] = (sparse_rows @ sparse_rows.T).toarray() + vector_weight * (wide @ wide.T)
    return gram


class _Lookup:
    """Access a few rows of a wide sparse matrix, at a cost that does not grow with its width.

    ``_scratch`` is read only at positions that the same call has written, so it needs no reset.
    """

    def __init__(self, matrix: sp.csr_array) -> None:
        self._starts, self._columns, self._data = matrix.indptr, matrix.indices, matrix.data
        self._scratch = np.zeros(matrix.shape[1], np.int32)
        self._values = np.zeros(matrix.shape[1])

    def rows(self, rows: Rows) -> sp.csr_array:
        """The rows as a matrix with columns renumbered, which keeps their inner products."""
        entries, starts = self._entries(rows)
        columns = self._columns[entries]
        self._scratch[columns] = np.arange(len(columns), dtype=np.int32)
        return sp.csr_array((self._data[entries], self._scratch[columns], starts), shape=(len(rows), len(columns)))

    def products(self, target: int, rows: Rows) -> NDArray[np.float64]:
        """Inner product of the row ``target`` with each of ``rows``."""
        target_entries = slice(self._starts[target], self._starts[target + 1])
        self._values[self._columns[target_entries]] = self._data[target_entries]
        entries, starts = self._entries(rows)
        parts = np.append(self._values[self._columns[entries]] * self._data[entries], 0.0)
        self._values[self._columns[target_entries]] = 0
        sums = np.add.reduceat(parts, starts[:-1]) if len(rows) else np.zeros(0)
        return np.where(np.diff(starts) > 0, sums, 0.0)

    def _entries(self, rows: Rows) -> tuple[Rows, Rows]:
        """Positions of the rows' entries, one row after the other, and the start of each row."""
        first, lengths = self._starts[rows], self._starts[rows + 1] - self._starts[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        return np.arange(starts[-1]) + np.repeat(first - starts[:-1], lengths), starts
