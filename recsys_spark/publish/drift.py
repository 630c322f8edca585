"""Drift of a new snapshot from the last one, by figures and their bounds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Figures = dict[str, float]


def vector_figures(stats: Sequence[Mapping[str, Any]]) -> Figures:
    """``mean_norm`` and ``mean_cosine`` of a table's vectors, from the sums of its tasks (``VectorSums``).

    The mean cosine of all pairs of n unit vectors u is (|Σu|² − n) / (n·(n − 1)): no pair is ever formed.
    """
    sums = [task["vectors"] for task in stats if "vectors" in task]
    number = sum(task["number"] for task in sums)
    if not number:
        return {}
    total = np.sum([task["direction"] for task in sums], axis=0)
    figures = {"mean_norm": sum(t["norm"] for t in sums) / number, "unusable": sum(t["unusable"] for t in sums)}
    if number > 1:
        figures["mean_cosine"] = (float(total @ total) - number) / (number * (number - 1))
    return {name: round(value, 6) for name, value in figures.items()}


def drifted(was: Mapping[str, float], now: Mapping[str, float], bounds: Mapping[str, float]) -> list[str]:
    """Describe each figure whose change exceeds its bound. Figures that ``was`` or ``now`` lacks are not compared.

    ``bounds``: ``max_row_change`` and ``max_norm_change`` are shares of the old figure, ``max_cosine_change`` and
    ``max_coverage_drop`` absolute, ``max_changed_lists`` a share of the users.
    """
    faults = []
    for name, bound in (("rows", bounds["max_row_change"]), ("mean_norm", bounds["max_norm_change"])):
        if name in was and name in now and abs(now[name] - was[name]) > bound * abs(was[name]):
            faults.append(f"{name} went from {was[name]:,g} to {now[name]:,g}, by more than {bound:.0%}")
    for name, sign, key in (("mean_cosine", 0, "max_cosine_change"), ("coverage", -1, "max_coverage_drop")):
        if name in was and name in now:
            change = now[name] - was[name]
            if (abs(change) if sign == 0 else sign * change) > bounds[key]:
                faults.append(f"{name} went from {was[name]:g} to {now[name]:g}, {key} is {bounds[key]:g}")
    if now.get("changed_lists", 0) > bounds["max_changed_lists"]:
        faults.append(
            f"{now['changed_lists']:.1%} of the lists have changed, more than max_changed_lists "
            f"{bounds['max_changed_lists']:.1%}"
        )
    return faults
