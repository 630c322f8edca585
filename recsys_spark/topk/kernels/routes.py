"""Which pairs of queries and items a tile of products is for, and which of them are excluded."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.integer]

Pairs = tuple[Rows, Rows]
"""(rows of queries, columns of a block)."""

Excluded = Pairs | NDArray[np.bool_]
"""Index of the excluded pairs of a tile: pairs, or a mask of the whole tile."""

NO_PAIRS: Pairs = (np.empty(0, np.int64), np.empty(0, np.int64))


@dataclass(frozen=True)
class Route:
    """The queries ``rows`` (ascending) are scored against the items ``start … stop − 1`` of a block."""

    rows: Rows
    start: int
    stop: int

    def clipped(self, start: int, stop: int) -> "Route":
        """The part of the route within these columns, counted from ``start``."""
        return Route(self.rows, max(self.start, start) - start, min(self.stop, stop) - start)

    def tiles(self, columns: int) -> Iterator["Route"]:
        """The route in parts of at most ``columns`` items; none if it has no queries."""
        for start in range(self.start, self.stop if len(self.rows) else 0, columns):
            yield Route(self.rows, start, min(start + columns, self.stop))

    def of_rows(self, tile: slice) -> "Route":
        """The part of the route within these rows, counted from the first."""
        first, last = np.searchsorted(self.rows, (tile.start, tile.stop))
        return Route(self.rows[first:last] - tile.start, self.start, self.stop)


@dataclass(frozen=True)
class Barred:
    """Excluded pairs by group of queries and class of items, for many such pairs.

    Args:
        bits: (G, ⌈C/8⌉) which classes are excluded for a group.
        groups: (n,) the group of each query.
        classes: (m,) the class of each item.
    """

    bits: NDArray[np.uint8]
    groups: Rows
    classes: Rows

    def pairs(self, rows: Rows, columns: Rows) -> NDArray[np.bool_]:
        """Mask of pairs that are excluded."""
        classes = self.classes[columns]
        return (self.bits[self.groups[rows], classes >> 3] >> (7 - (classes & 7)) & 1).astype(bool)

    def of_rows(self, tile: slice) -> "Barred":
        """Those of some queries."""
        return replace(self, groups=self.groups[tile])

    def of_columns(self, start: int, stop: int) -> "Barred":
        """Those of some items."""
        return replace(self, classes=self.classes[start:stop])

    def mask(self, route: Route) -> NDArray[np.bool_] | None:
        """(rows, columns) of a route that are excluded; None if none is."""
        classes = self.classes[route.start : route.stop]
        present, numbers = np.unique(self.groups[route.rows], return_inverse=True)
        excluded = (self.bits[present][:, classes >> 3] >> (7 - (classes & 7)).astype(np.uint8) & 1).view(np.bool_)
        return np.take(excluded, numbers.ravel(), axis=0) if excluded.any() else None


def sorted_by_column(pairs: Pairs) -> Pairs:
    """The pairs in the order of their columns."""
    order = np.argsort(pairs[1], kind="stable")
    return pairs[0][order], pairs[1][order]


def on_route(route: Route, excluded: Pairs) -> Pairs:
    """Excluded pairs (sorted by column) of a route, as indices into its rows and columns."""
    first, last = np.searchsorted(excluded[1], (route.start, route.stop))
    if first == last:
        return NO_PAIRS
    rows, columns = excluded[0][first:last], excluded[1][first:last] - route.start
    lines = np.searchsorted(route.rows, rows).clip(max=len(route.rows) - 1)
    matches = route.rows[lines] == rows
    return lines[matches], columns[matches]


def left_out(route: Route, excluded: Pairs, barred: Barred | None) -> Excluded:
    """Index of the excluded pairs (sorted by column) and barred pairs of a route."""
    pairs = on_route(route, excluded)
    mask = None if barred is None else barred.mask(route)
    if mask is None:
        return pairs
    mask[pairs] = True
    return mask
