"""A block of users with their histories on its way past item weights: sparse scores, the same rules."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys_spark.arrays.sparse import code_matrix, code_matrix_within
from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.topk.kernels.running_topk import EMPTY, RunningTopK
from recsys_spark.topk.kernels.shortlist import Pairs
from recsys_spark.topk.lists import ListRules, Rows, UserItems, as_rows, available, item_codes, rows_by_key, user_codes

USERS_AT_ONCE = 256

WEIGHT_COLUMNS = {"neighbors": "array<bigint>", "weights": "array<float>"}
"""What an item block carries for this: codes (xxhash64) of the items that an item's score is a sum over, ascending."""


def history_bytes(items: ItemBlocks, k: int, user_rows: int) -> int:
    """About the most memory of a task's Python process: grows with the blocks and k, not with users or items.

    The interpreter and its libraries; one item block, for each of 100 neighbours of an item 60 bytes; the lists and
    histories of 100 events; the scores of some users with every item of a block.
    """
    rows = min(items.block_rows, items.rows)
    return 210_000_000 + rows * (100 * 60 + 64) + user_rows * (k * 80 + 100 * 40) + USERS_AT_ONCE * rows * 50


class HistoryScorer:
    """Some users on their way past the item blocks: score = Σ over the history of weight(event) · weight(item pair)."""

    def __init__(self, part: pa.Table, items: ItemBlocks, k: int, rules: ListRules) -> None:
        part = part.filter(pc.greater(pc.list_value_length(part["history"]), 0))
        self.ids: pa.ChunkedArray = part["user_id"]
        self._items, self._rules = items, rules
        self._seen, self._allowed = UserItems(part["seen"]), UserItems(part["allowed"])
        self._restricted = part["allowed"].is_valid().to_numpy()
        self._keys = rows_by_key(part["match_key"]) if rules.keyed else None
        self._key_codes = user_codes(self._keys or {}, len(part))
        history, weights = part["history"].combine_chunks(), part["history_weights"].combine_chunks()
        self._vocabulary, self._histories = code_matrix(history, weights)
        queries = np.empty((len(part), 0), np.float32)
        self._running = RunningTopK(queries, k, least=rules.min_score, quota=rules.quota)

    def update(self, block: pa.RecordBatch) -> None:
        """Let the lists meet the next item block."""
        block = available(block, self._rules.run_date)
        if not len(self.ids) or not block.num_rows:
            return
        weights, ordinals = self._weights(block), block["ordinal"].to_numpy()
        boosts = block["boost"].fill_null(0).to_numpy(zero_copy_only=False) if self._rules.boosts else None
        groups = block["quota_group"].fill_null(-1).to_numpy(zero_copy_only=False) if self._rules.quota else None
        barred, offered = _flat(self._seen.within(block), block), _flat(self._allowed.within(block), block)
        keys = None if self._keys is None else (self._key_codes, item_codes(self._keys, block))
        for first in range(0, len(self.ids), USERS_AT_ONCE):
            product = sp.csr_array(self._histories[first : first + USERS_AT_ONCE] @ weights)
            rows = first + np.repeat(np.arange(product.shape[0]), np.diff(product.indptr))
            columns, pairs = product.indices.astype(np.int64), rows * block.num_rows + product.indices
            kept = ~_among(pairs, barred)
            if self._restricted.any():
                kept &= ~self._restricted[rows] | _among(pairs, offered)
            if keys is not None:
                kept &= keys[0][rows] == keys[1][columns]
            rows, columns = rows[kept], columns[kept]
            scores = product.data[kept] if boosts is None else product.data[kept] + boosts[columns]
            own = None if groups is None else groups[columns]
            self._running.offer(rows, scores.astype(np.float32), ordinals[columns], groups=own)

    @property
    def unfilled_slots(self) -> int:
        """Places that found no item."""
        return int((self._running.entries == EMPTY).sum())

    def recall_samples(self) -> list[tuple[int, float]]:
        """None: these lists are exact."""
        return []

    def lists(self) -> Iterator[pa.RecordBatch]:
        """The finished lists as rows, in the order of users and ranks."""
        yield from as_rows(self._items, self.ids, self._running.entries)

    def _weights(self, block: pa.RecordBatch) -> sp.csr_array:
        """(items of the histories, items of the block). A score is summed in the order of codes, whatever the
        blocks."""
        return sp.csr_array(code_matrix_within(block["neighbors"], self._vocabulary, block["weights"]).T)


def _flat(pairs: Pairs, block: pa.RecordBatch) -> Rows:
    return np.sort(pairs[0] * block.num_rows + pairs[1])


def _among(pairs: Rows, ordered: Rows) -> NDArray[np.bool_]:
    if not len(ordered):
        return np.zeros(len(pairs), bool)
    return ordered[np.searchsorted(ordered, pairs).clip(max=len(ordered) - 1)] == pairs
