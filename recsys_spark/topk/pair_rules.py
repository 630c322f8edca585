"""Which pairs of users and items may be listed: not seen nor denied, allowed, with the key of the user."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys_spark.topk.batch_rules import BatchRules, BlockRules
from recsys_spark.topk.kernels.routes import Pairs
from recsys_spark.topk.lists import ListRules, Rows, UserItems, item_codes, rows_by_key, user_codes

Eligible = Callable[[Rows, Rows], NDArray[np.bool_]]
"""(rows of users, columns of a block) of pairs → mask of the pairs that may be listed."""


class PairRules:
    """The rules of a batch of users (``users_with_rules``), for scorers that list single pairs instead of tiles."""

    def __init__(self, part: pa.Table, rules: ListRules) -> None:
        self._seen, self._allowed = UserItems(part["seen"]), UserItems(part["allowed"])
        self._restricted = part["allowed"].is_valid().to_numpy()
        self._keys = rows_by_key(part["match_key"]) if rules.keyed else None
        self._key_codes = user_codes(self._keys or {}, len(part))
        self.batch = None if rules.table is None else BatchRules(part, rules.table)
        self.block: BlockRules | None = None
        """The rules of the rule base within the last block."""

    def within(self, block: pa.RecordBatch) -> Eligible:
        """The mask of pairs of the users with a block."""
        excluded, allowed = _flat(self._seen.within(block), block), _flat(self._allowed.within(block), block)
        keys = None if self._keys is None else item_codes(self._keys, block)
        restricted, width = self._restricted.any(), block.num_rows
        self.block = None if self.batch is None else self.batch.within(block)
        barred = None if self.block is None else self.block.barred

        def eligible(rows: Rows, columns: Rows) -> NDArray[np.bool_]:
            pairs = rows * width + columns
            mask = ~_among(pairs, excluded)
            if restricted:
                mask &= ~self._restricted[rows] | _among(pairs, allowed)
            if keys is not None:
                mask &= self._key_codes[rows] == keys[columns]
            if barred is not None:
                mask &= ~barred.pairs(rows, columns)
            return mask

        return eligible

    def boosts(self, rows: Rows, columns: Rows) -> NDArray[np.float32]:
        """By how much the rule base raises the scores of pairs of the last block."""
        if self.batch is None or self.block is None or not self.block.boosts.shape[1]:
            return np.zeros(len(rows), np.float32)
        return np.einsum("ij,ij->i", self.batch.booster_columns[rows], self.block.boosts[columns])

    def allowed(self, block: pa.RecordBatch) -> Pairs:
        """(rows of users, columns) of the items that users with a rule 'allow' may be listed."""
        return self._allowed.within(block)


def _flat(pairs: Pairs, block: pa.RecordBatch) -> Rows:
    """Pairs as sorted integers: row times the items of the block, plus column."""
    return np.sort(pairs[0] * block.num_rows + pairs[1])


def _among(pairs: Rows, ordered: Rows) -> NDArray[np.bool_]:
    """Mask of the ``pairs`` that are in ``ordered`` (ascending)."""
    if not len(ordered):
        return np.zeros(len(pairs), bool)
    return ordered[np.searchsorted(ordered, pairs).clip(max=len(ordered) - 1)] == pairs
