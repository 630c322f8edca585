"""Look up ids in an Arrow column by a sorted index."""

import bisect
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


class IdIndex:
    """An index over a column of ids, to intersect them with one item block after another."""

    def __init__(self, ids: pa.Array) -> None:
        self._order = pc.sort_indices(ids)
        self._ids = ids.take(self._order)

    def matches(self, block_ids: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(row numbers in ``ids``, row numbers in ``block_ids``) of equal ids, ascending by the first."""
        if not len(block_ids):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        bounds = pc.min_max(block_ids).as_py()
        start = self._position(bounds["min"], bisect.bisect_left)
        stop = self._position(bounds["max"], bisect.bisect_right)
        block_rows = pc.index_in(self._ids.slice(start, stop - start), value_set=block_ids)
        matching = np.flatnonzero(block_rows.is_valid().to_numpy(zero_copy_only=False))
        rows = self._order.to_numpy()[start + matching].astype(np.int64)
        columns = block_rows.drop_null().to_numpy().astype(np.int64)
        order = np.argsort(rows, kind="stable")
        return rows[order], columns[order]

    def _position(self, value: str, side: Callable[..., int]) -> int:
        return side(range(len(self._ids)), value, key=lambda position: self._ids[position].as_py())
