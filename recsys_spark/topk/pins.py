"""Items that rules give a place in the lists of a batch of users."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys_spark.topk.batch_rules import BatchRules, BlockRules
from recsys_spark.topk.kernels.rule_masks import with_pins
from recsys_spark.topk.kernels.running_topk import EMPTY, Entries, entries_of
from recsys_spark.topk.lists import ListRules, Rows
from recsys_spark.topk.pair_rules import PairRules

Floats = NDArray[np.floating]


class Pins:
    """The pinned items of a batch of users, scored as blocks pass. Only a rule of higher priority, an earlier event,
    ``allow``, ``deny``, keys and availability keep a pinned item from its place."""

    def __init__(self, part: pa.Table, batch: BatchRules, rules: ListRules) -> None:
        self._others = PairRules(part, replace(rules, table=None))
        self._places = [pin.place for pin in batch.table.pins]
        self._entries: Entries = np.full((len(part), len(self._places)), EMPTY)

    def within(self, block: pa.RecordBatch, rules: BlockRules) -> Iterator[tuple[int, Rows, Rows]]:
        """(number of the pin, rows of users, columns) of the pairs in a block."""
        if rules.pins:
            eligible = self._others.within(block)
            for number, (rows, columns) in rules.pins.items():
                kept = eligible(rows, columns)
                yield number, rows[kept], columns[kept]

    def put(self, number: int, rows: Rows, scores: Floats, ordinals: Rows) -> None:
        """Keep the scores of the pairs of a pin."""
        self._entries[rows, number] = entries_of(scores.astype(np.float32), ordinals)

    def applied(self, entries: Entries) -> Entries:
        """(B, k) lists with the pinned items at their places."""
        return with_pins(entries, self._entries, self._places)
