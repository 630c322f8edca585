"""Protocol of the scorers of the Top-K join: a batch of users against one item block after another."""

from collections.abc import Callable, Iterator
from typing import Protocol

import pyarrow as pa

from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.topk.lists import ListRules


class UserScorer(Protocol):
    """Running Top-K lists of a batch of users. One instance serves one batch, within one task."""

    @property
    def ids(self) -> pa.ChunkedArray:
        """Users that get a list: those with a usable vector or history."""

    def update(self, block: pa.RecordBatch) -> None:
        """Score the items of a block and keep the best k of every user. Each block comes once, in any order."""

    @property
    def unfilled_slots(self) -> int:
        """Number of list positions without an item, over all users."""

    def recall_samples(self) -> list[tuple[int, float]]:
        """(stratum, recall of the exact list) of sampled users; empty if the lists are exact."""

    def lists(self) -> Iterator[pa.RecordBatch]:
        """Finished lists: ``user_id, item_id, score, rank`` in the order of users and ranks."""


ScorerFactory = Callable[[pa.Table, ItemBlocks, int, ListRules], UserScorer]
"""(users with their rules, item blocks, k, rules of every list) → scorer of these users."""
