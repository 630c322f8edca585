"""Exact blockwise Top-K by inner product, in bounded memory.

The product of two blocks runs in float32; every candidate that could belong to a list is scored again in float64,
pair by pair, and rounded to float32. Lists therefore do not depend on block sizes, nor on the order in which blocks
arrive.
"""

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]
Ordinals = NDArray[np.int64]

NONE = np.int64(np.iinfo(np.int64).max)
"""The ordinal of an empty place in a list."""


class RunningTopK:
    """The k best items so far for each of B queries.

    Items are known by ``ordinal`` (int64), and ordinals are ascending in the order that breaks ties. Memory beside
    the inputs: B·k·12 bytes for the lists, B·n·4 for the scores of one block of n items, and the same again for its
    mask.
    """

    def __init__(self, queries: NDArray[np.float32], k: int) -> None:
        if k < 1:
            raise ValueError(f"k must be at least 1, found {k}")
        rows, dimension = queries.shape
        self._queries = np.ascontiguousarray(queries)
        self.scores: Scores = np.full((rows, k), -np.inf, np.float32)
        self.ordinals: Ordinals = np.full((rows, k), NONE)
        # |float32 dot − exact dot| ≤ d·u/(1 − d·u) for unit vectors, u = 2⁻²⁴ (Higham, Accuracy and Stability, §3.1);
        # the last addend covers the rounding of the exact score.
        unit = 2.0**-24
        self._error = np.float32(1.01 * dimension * unit / (1 - dimension * unit) + 2 * unit)

    def update(
        self,
        items: NDArray[np.float32],
        first_ordinal: int,
        excluded: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
    ) -> None:
        """Offer a block of n unit vectors with ordinals ``first_ordinal … + n − 1``.

        ``excluded`` are (query rows, block columns) that must not be listed.
        """
        if not len(items):
            return
        product = self._queries @ items.T
        if excluded is not None:
            product[excluded] = -np.inf
        floor = np.maximum(self._floor(), self._block_floor(product))
        rows, columns = np.nonzero(product >= np.maximum(floor, np.finfo(np.float32).min)[:, None])
        if len(rows):
            self._merge(rows, first_ordinal + columns, _exact(self._queries, rows, items, columns))

    def _floor(self) -> Scores:
        """A product below this cannot enter a list that is already full."""
        return self.scores[:, -1] - self._error

    def _block_floor(self, product: Scores) -> Scores:
        """While lists are not full: a product below this is not even among the k best of its own block."""
        k, (rows, columns) = self.scores.shape[1], product.shape
        floor = np.full(rows, -np.inf, np.float32)
        open_rows = np.flatnonzero(np.isneginf(self.scores[:, -1]))
        if columns > k and len(open_rows):
            floor[open_rows] = np.partition(product[open_rows], columns - k, axis=1)[:, columns - k] - 2 * self._error
        return floor

    def _merge(self, rows: NDArray[np.int64], ordinals: Ordinals, scores: Scores) -> None:
        touched, place, counts = np.unique(rows, return_inverse=True, return_counts=True)
        column = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        k = self.scores.shape[1]
        all_scores = np.full((len(touched), k + counts.max()), -np.inf, np.float32)
        all_ordinals = np.full(all_scores.shape, NONE)
        all_scores[:, :k], all_ordinals[:, :k] = self.scores[touched], self.ordinals[touched]
        all_scores[place, k + column], all_ordinals[place, k + column] = scores, ordinals
        best = np.lexsort((all_ordinals, -all_scores), axis=-1)[:, :k]
        self.scores[touched] = np.take_along_axis(all_scores, best, axis=1)
        self.ordinals[touched] = np.take_along_axis(all_ordinals, best, axis=1)


def _exact(
    queries: NDArray[np.float32], rows: NDArray[np.int64], items: NDArray[np.float32], columns: NDArray[np.int64]
) -> Scores:
    """The dot product of each pair in float64, rounded to float32: a function of the two vectors alone."""
    scores = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), 65_536):
        part = slice(start, start + 65_536)
        products = queries[rows[part]].astype(np.float64) * items[columns[part]]
        scores[part] = products.sum(axis=1)
    return scores
