"""Additive attribution of scores: the contribution of each part of a user, and the score without that part.

Arrays are (k, n, B): k listed items, n parts of the user, B feature blocks. Sums are in float64; a stored score is such
a sum rounded to float32.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]

_NOTHING = 1e-9
"""A profile shorter than this share of the summed lengths of its parts is rounding noise: it has no direction."""


@dataclass(frozen=True, eq=False)
class Contributions:
    """The terms of the scores, and the scores without each part.

    ``values`` (k, n, B) add up to each item's score. ``cosines`` (k, n, B): of an item and a part within a block, NaN
    where one of them is zero there. ``without`` (k, n): the score if the part were removed.
    """

    values: Float64Array
    cosines: Float64Array
    without: Float64Array


def vector_contributions(
    items: Float64Array, parts: Float64Array, weights: Float64Array, widths: Mapping[str, int]
) -> Contributions:
    """Terms of the cosine of items and the profile Σ weight · part: weight · ⟨part, item⟩ / |profile|, per block.

    Args:
        items: (k, d) unit rows.
        parts: (n, d) vectors whose weighted sum is the profile.
        weights: (n,).
        widths: width of each block; the widths add up to d.
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


def best_of(profiles: Sequence[Contributions]) -> Contributions:
    """For each item the contributions of the profile that scores it highest. Profiles share parts and blocks."""
    if len(profiles) == 1:
        return profiles[0]
    best = np.argmax([one.values.sum(axis=(1, 2)) for one in profiles], axis=0)
    rows = np.arange(len(best))
    values, cosines, without = (
        np.stack([getattr(one, name) for one in profiles])[best, rows] for name in ("values", "cosines", "without")
    )
    return Contributions(values, cosines, without)


def weight_contributions(weights: Float64Array, item_weights: Float64Array) -> Contributions:
    """Terms of a weighted sum over a history: ``weights`` (n,) of its events, ``item_weights`` (k, n) of item pairs."""
    values = weights * item_weights
    return Contributions(
        values[:, :, None], np.full((*values.shape, 1), np.nan), values.sum(axis=1, keepdims=True) - values
    )


def deletion_fidelity(contributions: Contributions, history: int) -> tuple[float, float] | None:
    """Means over the items of the score loss: (without the top part of the history, without another part of it).

    The second is the expectation over a random other part, not a draw. The first ``history`` parts are the history;
    None if there are fewer than two.
    """
    if history < 2:
        return None
    total = contributions.values.sum(axis=(1, 2))
    losses = total[:, None] - contributions.without[:, :history]
    top = np.argmax(contributions.values[:, :history].sum(axis=2), axis=1)
    top_loss = losses[np.arange(len(losses)), top]
    return float(top_loss.mean()), float(((losses.sum(axis=1) - top_loss) / (history - 1)).mean())


def _norms(rows: Float64Array) -> Float64Array:
    return np.sqrt(np.einsum("nd,nd->n", rows, rows))
