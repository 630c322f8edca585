"""A score taken apart: what every part of a user adds to it, and what it would be without one of them.

Arrays are (k, n, B): k listed items, n parts of the user, B blocks. All sums are in float64; a stored score is one of
them rounded to float32.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Wide = NDArray[np.float64]

_NOTHING = 1e-9
"""A profile shorter than this share of its parts has cancelled to rounding noise: it has no direction."""


@dataclass(frozen=True, eq=False)
class Contributions:
    """``values`` (k, n, B): they add up to each item's score. ``cosines`` (k, n, B): how alike an item and a part are
    within a block, NaN where one of them has nothing there. ``without`` (k, n): the score if the part were not there.
    """

    values: Wide
    cosines: Wide
    without: Wide


def vector_contributions(items: Wide, parts: Wide, weights: Wide, widths: Mapping[str, int]) -> Contributions:
    """Of the cosine of items and a profile Σ weight · part: weight · ⟨part, item⟩ / |profile|, block by block.

    Args:
        items: (k, d) unit rows.
        parts: (n, d) what the profile is the sum of.
        weights: (n,).
        widths: numbers of each block; they add up to d.
    """
    profile = weights @ parts
    length = np.sqrt(profile @ profile)
    products, cosines, first = [], [], 0
    for width in widths.values():
        block = slice(first, first + width)
        product = items[:, block] @ parts[:, block].T
        norms = np.outer(_norms(items[:, block]), _norms(parts[:, block]))
        products.append(product)
        cosines.append(np.divide(product, norms, out=np.full_like(product, np.nan), where=norms > 0))
        first += width
    dots = np.stack(products, axis=2)
    values = dots * (weights / length if length > 0 else 0.0 * weights)[None, :, None]
    squares = np.einsum("nd,nd->n", parts, parts)
    rest = profile @ profile - 2 * weights * (parts @ profile) + weights**2 * squares
    scale = np.sqrt(np.maximum(rest, 0.0))
    left = (items @ profile)[:, None] - weights * dots.sum(axis=2)
    usable = scale > _NOTHING * (np.abs(weights) * np.sqrt(squares)).sum()
    without = np.divide(left, scale, out=np.zeros_like(left), where=np.broadcast_to(usable, left.shape))
    return Contributions(values, np.stack(cosines, axis=2), without)


def best_of(found: Sequence[Contributions]) -> Contributions:
    """For every item those of several profiles, of equal parts and blocks, that give it the greatest score."""
    if len(found) == 1:
        return found[0]
    best = np.argmax([one.values.sum(axis=(1, 2)) for one in found], axis=0)
    rows = np.arange(len(best))
    values, cosines, without = (
        np.stack([getattr(one, name) for one in found])[best, rows] for name in ("values", "cosines", "without")
    )
    return Contributions(values, cosines, without)


def weight_contributions(weights: Wide, item_weights: Wide) -> Contributions:
    """Of a sum over a history: ``weights`` (n,) what its events count, ``item_weights`` (k, n) of the item pairs."""
    values = weights * item_weights
    return Contributions(
        values[:, :, None], np.full((*values.shape, 1), np.nan), values.sum(axis=1, keepdims=True) - values
    )


def deletion_fidelity(found: Contributions, history: int) -> tuple[float, float] | None:
    """Mean over the items: (how much the score falls without the history's top part, without another one on average).

    The expectation over a random other one, not a draw. ``history``: so many of the parts, the first, may be removed.
    None where there are fewer than two.
    """
    if history < 2:
        return None
    total = found.values.sum(axis=(1, 2))
    falls = total[:, None] - found.without[:, :history]
    top = np.argmax(found.values[:, :history].sum(axis=2), axis=1)
    first = falls[np.arange(len(falls)), top]
    return float(first.mean()), float(((falls.sum(axis=1) - first) / (history - 1)).mean())


def _norms(rows: Wide) -> Wide:
    return np.sqrt(np.einsum("nd,nd->n", rows, rows))
