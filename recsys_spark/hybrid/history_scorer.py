"""Score a batch of users by their histories and item weights: sparse products under the same list rules."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys_spark.arrays.sparse import code_matrix, code_matrix_within
from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.runtime.task import PYTHON_BYTES
from recsys_spark.topk.kernels.running_topk import EMPTY, Entries, RunningTopK
from recsys_spark.topk.lists import ListRules, Rows, as_rows, available_items, item_boosts
from recsys_spark.topk.pair_rules import PairRules
from recsys_spark.topk.pins import Pins

USERS_AT_ONCE = 256

WEIGHT_COLUMNS = {"neighbors": "array<bigint>", "weights": "array<float>"}
"""Extra columns of an item block: codes (xxhash64) of the items that an item's score sums over, ascending."""


def history_bytes(items: ItemBlocks, k: int, user_rows: int) -> int:
    """Estimate the peak memory of a task's Python process in bytes.

    It grows with block sizes and k, not with the number of users or items. It is the sum of: the interpreter and its
    libraries; one item block with 60 bytes for each of 100 neighbours of an item; the lists, and histories of 100
    events; the scores of some users with every item of a block.
    """
    rows = min(items.block_rows, items.rows)
    return PYTHON_BYTES + rows * (100 * 60 + 64) + user_rows * (k * 80 + 100 * 40) + USERS_AT_ONCE * rows * 50


class HistoryScorer:
    """Running Top-K lists of a batch of users: score = Σ over the history of weight(event) · weight(item pair)."""

    def __init__(self, part: pa.Table, items: ItemBlocks, k: int, rules: ListRules) -> None:
        part = part.filter(pc.greater(pc.list_value_length(part["history"]), 0))
        self.ids: pa.ChunkedArray = part["user_id"]
        self._items, self._rules = items, rules
        self._pair_rules = PairRules(part, rules)
        batch = self._pair_rules.batch
        self._pins = Pins(part, batch, rules) if batch and batch.table.pins else None
        history, weights = part["history"].combine_chunks(), part["history_weights"].combine_chunks()
        self._vocabulary, self._histories = code_matrix(history, weights)
        queries = np.empty((len(part), 0), np.float32)
        self._running = RunningTopK(queries, k, min_score=rules.min_score, quota=rules.quota)

    def update(self, block: pa.RecordBatch) -> None:
        """Score the items of a block and keep the best k of every user."""
        block = available_items(block, self._rules.run_date)
        if not len(self.ids) or not block.num_rows:
            return
        weights, ordinals = self._weights(block), block["ordinal"].to_numpy()
        boosts = item_boosts(block["boost"], block["available_from"], self._rules)
        groups = block["quota_group"].fill_null(-1).to_numpy(zero_copy_only=False) if self._rules.quota else None
        eligible_pairs = self._pair_rules.within(block)
        for first in range(0, len(self.ids), USERS_AT_ONCE):
            product = sp.csr_array(self._histories[first : first + USERS_AT_ONCE] @ weights)
            rows = first + np.repeat(np.arange(product.shape[0]), np.diff(product.indptr))
            columns = product.indices.astype(np.int64)
            eligible = eligible_pairs(rows, columns)
            rows, columns = rows[eligible], columns[eligible]
            scores = product.data[eligible] if boosts is None else product.data[eligible] + boosts[columns]
            if self._pair_rules.batch is not None:
                scores = scores + self._pair_rules.boosts(rows, columns)
            pair_groups = None if groups is None else groups[columns]
            self._running.offer(rows, scores.astype(np.float32), ordinals[columns], groups=pair_groups)

        if self._pins is not None and self._pair_rules.block is not None:
            for number, rows, columns in self._pins.within(block, self._pair_rules.block):
                scores = _scores_of(self._histories, weights, rows, columns) + self._pair_rules.boosts(rows, columns)
                scores = scores if boosts is None else scores + boosts[columns]
                self._pins.put(number, rows, scores, ordinals[columns])

    @property
    def _entries(self) -> Entries:
        return self._running.entries if self._pins is None else self._pins.applied(self._running.entries)

    @property
    def unfilled_slots(self) -> int:
        """Number of list positions without an item, over all users."""
        return int((self._entries == EMPTY).sum())

    def recall_samples(self) -> list[tuple[int, float]]:
        """Return no samples: these lists are exact."""
        return []

    def lists(self) -> Iterator[pa.RecordBatch]:
        """Finished lists as rows, in the order of users and ranks."""
        yield from as_rows(self._items, self.ids, self._entries)

    def _weights(self, block: pa.RecordBatch) -> sp.csr_array:
        """Weights as (items of the histories, items of the block). A score is summed in the order of codes, so that
        blocks do not change it."""
        return sp.csr_array(code_matrix_within(block["neighbors"], self._vocabulary, block["weights"]).T)


def _scores_of(histories: sp.csr_array, weights: sp.csr_array, rows: Rows, columns: Rows) -> NDArray[np.float64]:
    """Scores of single pairs, of which one column has many."""
    scores = np.zeros(len(rows))
    for column in np.unique(columns):
        here = columns == column
        scores[here] = (histories[rows[here]] @ weights[:, [column]]).toarray()[:, 0]
    return scores
