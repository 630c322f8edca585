"""Dot products in float64, rounded to float32: the scores that lists hold."""

from typing import Any

import numpy as np

from recsys_spark.topk.kernels.routes import Rows
from recsys_spark.topk.kernels.shortlist import Scores
from recsys_spark.topk.kernels.threads import in_threads

_PAIRS_AT_ONCE = 256

_ITEM_BYTES = 6_000_000  # of a bucket of items, fetched together: a second or third cache holds them


def exact_scores(
    queries: Scores,
    rows: Rows,
    items: Scores,
    columns: Rows,
    loops: Any = None,
    lengths: float = np.inf,
    threads: int = 1,
) -> Scores:
    """Dot product of each pair in float64, rounded to float32: it depends on nothing but the two vectors.

    Compiled loops sum in another order than NumPy. Pairs for which that could be another float32 are left to NumPy.

    Args:
        queries, items: (n, d) and (m, d).
        rows, columns: (p,) pairs.
        loops: ``compiled_loops``, or None.
        lengths: the greatest length of a query times that of an item.
        threads: threads of the loops.
    """
    scores = np.empty(len(rows), np.float32)
    if loops is None:
        left: Rows = np.argsort(columns)  # adjacent in memory
    else:
        left = _scored(queries, rows, items, columns, loops, lengths, threads, scores)
    for start in range(0, len(left), _PAIRS_AT_ONCE):  # fits in the cache of a core
        part = left[start : start + _PAIRS_AT_ONCE]
        wide_queries, wide_items = queries[rows[part]].astype(np.float64), items[columns[part]].astype(np.float64)
        scores[part] = np.einsum("ij,ij->i", wide_queries, wide_items)
    return scores


def longest(vectors: Scores, loops: Any) -> float:
    """Greatest length of a vector; infinite without ``loops``, which alone use it."""
    return np.inf if loops is None else float(loops.longest(vectors))


def _scored(
    queries: Scores,
    rows: Rows,
    items: Scores,
    columns: Rows,
    loops: Any,
    lengths: float,
    threads: int,
    scores: Scores,
) -> Rows:
    """Fill ``scores`` by compiled loops, and return the pairs whose scores are unsure.

    Products of two float32 are exact in float64. Two sums of d of them, in any two orders, differ by at most
    2·γ·|x||y|, γ = d·u/(1 − d·u), u = 2⁻⁵³ (Higham, Accuracy and Stability of Numerical Algorithms, §3.1). Where the
    sum less and plus this slack is the same float32, so is the sum in any order.
    """
    slack = 2.02 * (queries.shape[1] + 2) * 2.0**-53 * lengths
    pairs = rows.astype(np.int64), columns.astype(np.int64)
    bucket = max(_ITEM_BYTES // (4 * max(items.shape[1], 1)), len(items) >> 16, 1)
    order = np.argsort((columns // bucket).astype(np.uint16), kind="stable")  # 16 bits: a radix sort

    def score(start: int, stop: int) -> Rows:
        unsure = np.empty(stop - start, np.int64)
        return unsure[: loops.score(queries, items, *pairs, order[start:stop], slack, scores, unsure)]

    return np.concatenate(in_threads(threads, len(order), score))
