"""Look up ids in an Arrow column by a sorted index."""

import bisect
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


class IdIndex:
    """Many ids, asked again and again which of them lie in an item block."""

    def __init__(self, ids: pa.Array) -> None:
        self._order = pc.sort_indices(ids)
        self._ids = ids.take(self._order)

    def matches(self, block_ids: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(places in ``ids``, places in ``block_ids``) of equal ids, ascending by the first."""
        if not len(block_ids):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        bounds = pc.min_max(block_ids).as_py()
        start, stop = self._place(bounds["min"], bisect.bisect_left), self._place(bounds["max"], bisect.bisect_right)
        found = pc.index_in(self._ids.slice(start, stop - start), value_set=block_ids)
        there = np.flatnonzero(found.is_valid().to_numpy(zero_copy_only=False))
        places = self._order.to_numpy()[start + there].astype(np.int64)
        columns = found.drop_null().to_numpy().astype(np.int64)
        order = np.argsort(places, kind="stable")
        return places[order], columns[order]

    def _place(self, value: str, side: Callable[..., int]) -> int:
        return side(range(len(self._ids)), value, key=lambda place: self._ids[place].as_py())
