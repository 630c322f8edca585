"""What the driver knows of figures: histograms, scales and moments, of bounded size for any number of users."""

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from recsys_spark.risk.evidence import STEPS
from recsys_spark.risk.kernels.scales import Histogram, center_and_scale, peer_groups
from recsys_spark.risk.scaled_figures import Scales, counted_values, summed_moments

LEAST_PEERS = 100
"""Users of a group of peers."""


def histograms(rows: DataFrame, column: str, by: str | None = None) -> dict[tuple[int, int], Histogram]:
    """Histogram of each figure of ``column`` (array<int>), by (class, place); the class is 0 without ``by``.

    The driver gets a row for each value that occurs, see ``counted_values``.
    """
    table = counted_values(rows, column, by).toArrow()
    names = list(zip(table["class"].to_pylist(), table["place"].to_pylist(), strict=True))
    cells: dict[tuple[int, int], tuple[list[int], list[int]]] = {}
    for name, value, n in zip(names, table["value"].to_pylist(), table["n"].to_pylist(), strict=True):
        values_, counts_ = cells.setdefault(name, ([], []))
        values_.append(value)
        counts_.append(n)
    return {name: Histogram.of(*cell) for name, cell in cells.items()}


def peer_scales(rows: DataFrame, width: int, least: int = LEAST_PEERS) -> Scales:
    """Median and robust deviation of each figure among peers, by class. A figure that never varies has scale 0."""
    classes = {row["class"]: row["count"] for row in rows.groupBy("class").count().collect()}
    groups, by_class = peer_groups(classes, least), histograms(rows, "figures", "class")
    scales: dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    for group in set(groups.values()):
        centers, widths = np.zeros(width), np.zeros(width)
        for place in range(width):
            parts = [h for (one, at), h in by_class.items() if at == place and groups[one] == group]
            if parts:
                values, counts = (np.concatenate([getattr(h, f) for h in parts]) for f in ("values", "counts"))
                centers[place], widths[place] = center_and_scale(Histogram.of(values.tolist(), counts.tolist()))
        for one in (one for one, number in groups.items() if number == group):
            scales[one] = centers, widths
    return scales


def moments(rows: DataFrame, width: int) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
    """Number of rows, sums (width,) and sums of products (width, width) of z-scores in deviations.

    The driver adds up one row of integers for each task.
    """
    parts = summed_moments(rows, width).collect()
    total = np.sum([np.array(row["sums"], np.int64) for row in parts], axis=0).reshape(width + 1, width + 1)
    return int(total[0, 0]), total[0, 1:] / STEPS, total[1:, 1:] / STEPS**2
