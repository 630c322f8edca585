"""Prices of single items, which spread exposure over more of the catalogue."""

import numpy as np
from numpy.typing import NDArray

from recsys_spark.fairness.kernels.exposure import UNIT, Candidates, Ints, position_exposure, priced_order

_ROUNDS = 40

_STEP = 0.2


def even_prices(candidates: Candidates, items: Ints, count: int, strength: float) -> Ints:
    """(count,) price of each item: −strength · UNIT · log(1 + x), with x its exposure over the mean exposure of items.

    Lists at these prices climb Σ exposure · gain − strength · Σ ∫ log(1 + x), which is concave in the exposures: Frank
    and Wolfe's steps, each to the best lists at the prices of the averaged exposures so far.

    Args:
        candidates: of a sample of users, with all groups −1.
        items: (U, c) number of the item, from 0 to ``count`` − 1.
        count: number of items.
        strength: 0 changes nothing; at 1 an item with the mean exposure costs .69 of the best candidate's gain.
    """
    prices, averaged = np.zeros(count, np.int64), np.zeros(count)
    none = np.zeros((1, 0), np.int64)
    weights = position_exposure(candidates.k)
    for number in range(_ROUNDS):
        priced = Candidates(
            candidates.gains + prices[items], candidates.groups, candidates.sizes, candidates.k, candidates.head
        )
        order = priced_order(priced, none)
        listed = np.take_along_axis(items, np.maximum(order, 0), axis=1)[order >= 0]
        exposure = np.bincount(listed, np.broadcast_to(weights, order.shape)[order >= 0], count)
        step = 1.0 if not number else _STEP
        averaged += step * (exposure / max(exposure.mean(), 1.0) - averaged)
        prices = -np.rint(strength * UNIT * np.log1p(averaged)).astype(np.int64)
    return prices


def gini_of_exposure(exposure: NDArray[np.float64]) -> float:
    """Gini index of the exposures of all items: 0 if they are equal, near 1 if one item has all."""
    ordered, n = np.sort(exposure), len(exposure)
    total = ordered.sum()
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total)) if total else float("nan")
