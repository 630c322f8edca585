"""Candidates of a batch of users, from one pass over the item blocks: popular items, own items, and the items of
greatest score by history."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys_spark.arrays.sparse import code_matrix, code_matrix_within, flat
from recsys_spark.arrays.vectors import Matrix, unit_rows
from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.hybrid.history_scorer import USERS_AT_ONCE, WEIGHT_COLUMNS
from recsys_spark.profiles.kernels.pooling import accumulate
from recsys_spark.ranking.kernels.code_lists import CodeLists, Rows, positions
from recsys_spark.ranking.kernels.features import ITEM_FEATURES, OWN_STATISTICS, Candidates, Floats, Users
from recsys_spark.ranking.kernels.recency import recency
from recsys_spark.topk.kernels.exact_scores import exact_scores
from recsys_spark.topk.kernels.running_topk import EMPTY, RunningTopK, ordinals_of
from recsys_spark.topk.lists import ListRules, available_items, item_boosts, locate_items
from recsys_spark.topk.pair_rules import PairRules
from recsys_spark.topk.pins import Pins

ITEM_COLUMNS = {**WEIGHT_COLUMNS, "code": "bigint", "title": "string", "popular": "boolean", "features": "array<float>"}
"""Extra columns of an item block: the code of ``item_id``, the title, whether it is a candidate of every user, and
ITEM_FEATURES."""

_READ = pa.schema(
    {
        "code": pa.int64(),
        "features": pa.list_(pa.float32()),
        "boost": pa.float32(),
        "quota_group": pa.int64(),
        "rule_atoms": pa.list_(pa.int64()),
        "available_from": pa.date32(),
    }
)

_SMALLEST = float(np.finfo(np.float32).tiny)


class CandidateSearch:
    """The candidates of a batch of users, over the blocks so far.

    The score of a candidate, from whichever source, is Σ over the history of weight(event) · weight(item pair), as of
    ``HistoryScorer``; its recent score the same with weights that also decay by newer baskets.
    """

    def __init__(self, part: pa.Table, items: ItemBlocks, by_score: int, rules: ListRules) -> None:
        self._rules, self._pair_rules, self._size = rules, PairRules(part, rules), len(part)
        self.batch = self._pair_rules.batch
        self.pins = Pins(part, self.batch, rules) if self.batch and self.batch.table.pins else None
        self.pinned: list[tuple[int, Rows, Rows]] = []
        """(number of the pin, users ascending, ordinals) of pinned pairs, which are candidates."""
        values = part["own_values"].combine_chunks().flatten().to_numpy().reshape(-1, len(OWN_STATISTICS))
        self.users = Users(code_lists(part["own_items"]), values)
        history, weights = part["history"].combine_chunks(), part["history_weights"].combine_chunks()
        self._vocabulary, self._histories = code_matrix(history, weights)
        self.histories, self.history_weights = code_lists(part["history"]), weights.flatten().to_numpy()
        self._recent = self._by_recency()
        queries = np.empty((len(part), 0), np.float32)
        self._best = [RunningTopK(queries, by_score, min_score=_SMALLEST) for _ in (self._histories, self._recent)]
        self._pairs: list[tuple[Rows, Rows]] = []
        self._items, self._profiles = items, np.zeros((len(part), items.dimension))

    def update(self, block: pa.RecordBatch) -> None:
        """Search the items of a block. Each block comes once."""
        if self._size:
            self._pool(block)
        block = available_items(block, self._rules.run_date)
        if not block.num_rows or not self._size:
            return
        eligible, ordinals = self._pair_rules.within(block), block["ordinal"].to_numpy()
        weights, everybody = self._weights(block), np.flatnonzero(block["popular"].to_numpy(zero_copy_only=False))
        allowed_users, allowed = self._pair_rules.allowed(block)
        mine = [self._own_pairs(block), (allowed_users.astype(np.int64), allowed.astype(np.int64))]
        if self.pins is not None and self._pair_rules.block is not None:
            for number, rows, columns in self.pins.within(block, self._pair_rules.block):
                self.pinned.append((number, rows, ordinals[columns]))
                self._pairs.append((rows, ordinals[columns]))
        for first in range(0, self._size, USERS_AT_ONCE):
            users = slice(first, min(first + USERS_AT_ONCE, self._size))
            for histories, best in zip((self._histories, self._recent), self._best, strict=True):
                product = sp.csr_array(histories[users] @ weights)
                rows, columns = np.repeat(np.arange(product.shape[0]), np.diff(product.indptr)), product.indices
                chosen = eligible(first + rows, columns.astype(np.int64))
                scores = product.data[chosen].astype(np.float32)
                best.offer(first + rows[chosen], scores, ordinals[columns[chosen]])
            for pair_rows, pair_columns in [
                _of_everybody(users, everybody),
                *(_of_users(pairs, users) for pairs in mine),
            ]:
                kept = eligible(pair_rows, pair_columns)
                self._pairs.append((pair_rows[kept], ordinals[pair_columns[kept]]))

    def candidates(self) -> tuple[Candidates, "ItemRows", Rows]:
        """All candidates after the last block, their items, and the row of each candidate's item in these.

        It passes over the blocks again, for the scores, and the features and vectors of the items.
        """
        pairs = list(self._pairs)
        for best in self._best:
            rows, places = np.nonzero(best.entries != EMPTY)
            pairs.append((rows, ordinals_of(best.entries[rows, places])))
        users, ordinals = (np.concatenate(column) for column in zip(*pairs, strict=True))
        _, once = np.unique(keys_of(users, ordinals), return_index=True)
        users, ordinals = users[once], ordinals[once]
        needed, item_rows = np.unique(ordinals, return_inverse=True)
        scores, recent = np.zeros(len(users), np.float32), np.zeros(len(users), np.float32)
        cosines = np.full(len(users), np.nan, np.float32)
        profiles = unit_rows(self._profiles).astype(np.float32)
        parts = []
        read = ("ordinal", "embedding", *WEIGHT_COLUMNS, *_READ.names)
        for places, block, columns in locate_items(self._items.columns(*read), needed):
            parts.append((places, _read(block.select(_READ.names).take(pa.array(columns)))))
            row_of = np.full(len(needed), -1)
            row_of[places] = columns
            here = np.flatnonzero(row_of[item_rows] >= 0)
            of_block = row_of[item_rows[here]]
            cosines[here] = exact_scores(profiles, users[here], _vectors(block), of_block)
            weights = self._weights(block)
            scores[here] = _scores_of(self._histories, weights, users[here], of_block)
            recent[here] = _scores_of(self._recent, weights, users[here], of_block)
        pooled = np.abs(self._profiles).sum(axis=1) > 0
        cosines[~pooled[users]] = np.nan
        found = ItemRows.of(parts, self._rules)
        own = self.users.items.entries(users, found.codes[item_rows])
        return Candidates(users, ordinals, scores, recent, cosines, own), found, item_rows

    def _by_recency(self) -> sp.csr_array:
        """The histories with weights that decay by newer baskets, too."""
        entries = self.users.items.entries(self.histories.users, self.histories.codes)
        ages = np.append(self.users.values[:, OWN_STATISTICS.index("last")], np.float32(np.inf))[entries]
        recent = self._histories.copy()
        recent.data = recent.data * recency(self.histories.users, ages)
        return recent

    def _pool(self, block: pa.RecordBatch) -> None:
        """Add the vectors of a block to the profiles, Σ weight(event) · v(item), item by item in their order."""
        if not len(self._vocabulary):
            return
        codes, present = positions(self._vocabulary, block["code"].to_numpy())
        columns = np.flatnonzero(present)
        pairs = sp.csr_array(self._histories[:, codes[columns]])
        pairs.sort_indices()
        rows = np.repeat(np.arange(self._size), np.diff(pairs.indptr))
        vectors = _vectors(block)
        for first in range(0, self._size, USERS_AT_ONCE):  # bounds the copies of vectors
            part = slice(*pairs.indptr[[first, min(first + USERS_AT_ONCE, self._size)]])
            accumulate(self._profiles, rows[part], pairs.data[part], vectors[columns[pairs.indices[part]]])

    def _weights(self, block: pa.RecordBatch) -> sp.csr_array:
        """(items of the histories, items of the block), as ``HistoryScorer`` has them."""
        if not len(self._vocabulary):
            return sp.csr_array((0, block.num_rows), dtype=np.float64)
        return sp.csr_array(code_matrix_within(block["neighbors"], self._vocabulary, block["weights"]).T)

    def _own_pairs(self, block: pa.RecordBatch) -> tuple[Rows, Rows]:
        """(rows of users ascending, columns) of the items of the users in a block."""
        codes = block["code"].to_numpy()
        order = np.argsort(codes)
        places, matches = positions(codes[order], self.users.items.codes)
        return self.users.items.users[matches], order[places[matches]]


@dataclass(frozen=True)
class ItemRows:
    """Columns of n items. ``groups``: −1 without a quota group.

    Args:
        codes: (n,).
        features: (n, len(ITEM_FEATURES)).
        boosts, groups: (n,).
        atoms: (n,) lists, of the rules of a rule base.
    """

    codes: Rows
    features: Floats
    boosts: Floats
    groups: Rows
    atoms: pa.ListArray

    @classmethod
    def of(cls, parts: list[tuple[Rows, pa.RecordBatch]], rules: ListRules) -> "ItemRows":
        """Rows of _READ, in the order of the positions beside them."""
        order = pa.array(np.argsort(np.concatenate([np.empty(0, np.int64), *(places for places, _ in parts)])))
        table = pa.Table.from_batches([rows for _, rows in parts], _READ).combine_chunks().take(order).combine_chunks()
        features = table["features"].combine_chunks().flatten().to_numpy()
        boosts = item_boosts(table["boost"].combine_chunks(), table["available_from"].combine_chunks(), rules)
        return cls(
            table["code"].to_numpy(),
            features.reshape(len(table), len(ITEM_FEATURES)),
            table["boost"].fill_null(0).to_numpy() if boosts is None else boosts,
            table["quota_group"].fill_null(-1).to_numpy(),
            table["rule_atoms"].combine_chunks(),
        )


def _scores_of(histories: sp.csr_array, weights: sp.csr_array, users: Rows, columns: Rows) -> Floats:
    """(C,) scores of pairs of users, ascending, and items of a block."""
    scores = np.zeros(len(users), np.float32)
    for first in range(0, histories.shape[0], USERS_AT_ONCE):
        part = slice(*np.searchsorted(users, (first, first + USERS_AT_ONCE)))
        if part.start < part.stop:  # of no pairs SciPy returns a sparse array
            product = sp.csr_array(histories[first : first + USERS_AT_ONCE] @ weights)
            scores[part] = product[users[part] - first, columns[part]]
    return scores


def _read(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Rows of _READ; Spark says of some lists that no element is null, which is another type."""
    return pa.RecordBatch.from_arrays([rows[field.name].cast(field.type) for field in _READ], schema=_READ)


def _vectors(block: pa.RecordBatch) -> Matrix:
    return block["embedding"].flatten().to_numpy().reshape(block.num_rows, -1)


def keys_of(users: Rows, ordinals: Rows) -> NDArray[np.uint64]:
    """One number for each pair of the row of a user and the ordinal of an item."""
    return users.astype(np.uint64) << np.uint64(32) | ordinals.astype(np.uint64)


def code_lists(column: pa.ChunkedArray) -> CodeLists:
    """A column of lists of codes, each list ascending."""
    codes, offsets = flat(column.combine_chunks())
    return CodeLists(offsets, codes)


def _of_everybody(users: slice, columns: Rows) -> tuple[Rows, Rows]:
    rows = np.arange(users.start, users.stop)
    return np.repeat(rows, len(columns)), np.tile(columns, len(rows))


def _of_users(pairs: tuple[Rows, Rows], users: slice) -> tuple[Rows, Rows]:
    """The pairs of some users. ``pairs``: rows ascending."""
    part = slice(*np.searchsorted(pairs[0], (users.start, users.stop)))
    return pairs[0][part], pairs[1][part]
