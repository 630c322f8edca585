"""What the Top-K join asks of a scorer: a batch of users that meets one item block after another."""

from collections.abc import Callable, Iterator
from typing import Protocol

import pyarrow as pa

from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.topk.lists import ListRules


class UserScorer(Protocol):
    """The running Top-K lists of a batch of users. One instance serves one batch, within one task."""

    @property
    def ids(self) -> pa.ChunkedArray:
        """The users that get a list; users without a usable vector or history are left out."""

    def update(self, block: pa.RecordBatch) -> None:
        """Score the items of one block and keep the best k of every user. Blocks come in any order, each once."""

    @property
    def unfilled_slots(self) -> int:
        """Number of list positions without an item, over all users."""

    def recall_samples(self) -> list[tuple[int, float]]:
        """(stratum, share of the exact list that was found) of sampled users; empty if the lists are exact."""

    def lists(self) -> Iterator[pa.RecordBatch]:
        """``user_id, item_id, score, rank`` of the finished lists, in the order of users and ranks."""


ScorerFactory = Callable[[pa.Table, ItemBlocks, int, ListRules], UserScorer]
"""Users with their rules, the items, k, the rules of every list → a scorer of these users."""
