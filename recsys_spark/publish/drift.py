"""How far a new snapshot may be from the last one before somebody should look at it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Figures = dict[str, float]


def vector_figures(notes: Sequence[Mapping[str, Any]]) -> Figures:
    """``mean_norm`` and ``mean_cosine`` of a table's vectors, from the sums that its tasks note (``VectorSums``).

    The mean cosine of all pairs of n unit vectors u is (|Σu|² − n) / (n·(n − 1)): no pair is ever formed.
    """
    sums = [note["vectors"] for note in notes if "vectors" in note]
    number = sum(part["number"] for part in sums)
    if not number:
        return {}
    total = np.sum([part["direction"] for part in sums], axis=0)
    figures = {"mean_norm": sum(part["norm"] for part in sums) / number, "unusable": sum(p["unusable"] for p in sums)}
    if number > 1:
        figures["mean_cosine"] = (float(total @ total) - number) / (number * (number - 1))
    return {name: round(value, 6) for name, value in figures.items()}


def drifted(was: Mapping[str, float], now: Mapping[str, float], bounds: Mapping[str, float]) -> list[str]:
    """In words what has moved further than ``bounds`` allow; figures that either side lacks are not compared.

    ``bounds``: ``max_row_change`` and ``max_norm_change`` as shares of the old figure, ``max_cosine_change`` and
    ``max_coverage_drop`` absolute, ``max_changed_lists`` a share of the users.
    """
    found = []
    for name, bound in (("rows", bounds["max_row_change"]), ("mean_norm", bounds["max_norm_change"])):
        if name in was and name in now and abs(now[name] - was[name]) > bound * abs(was[name]):
            found.append(f"{name} went from {was[name]:,g} to {now[name]:,g}, by more than {bound:.0%}")
    for name, sign, key in (("mean_cosine", 0, "max_cosine_change"), ("coverage", -1, "max_coverage_drop")):
        if name in was and name in now:
            moved = now[name] - was[name]
            if (abs(moved) if sign == 0 else sign * moved) > bounds[key]:
                found.append(f"{name} went from {was[name]:g} to {now[name]:g}, {key} is {bounds[key]:g}")
    if now.get("changed_lists", 0) > bounds["max_changed_lists"]:
        found.append(
            f"{now['changed_lists']:.1%} of the lists have changed, more than max_changed_lists "
            f"{bounds['max_changed_lists']:.1%}"
        )
    return found
