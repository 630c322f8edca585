"""Item-item weights from item features: candidates by blockwise joins of items with themselves, then a ridge per item.

A task takes a block of items as targets and reads all blocks twice: once for the candidates, once for the features of
the candidates. No shuffle has a row for a pair of items.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys_spark.arrays.arrow import as_lists
from recsys_spark.arrays.sparse import code_matrix, code_matrix_within, flat
from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.hybrid.kernels.item_ridge import Features, co_occurrence, ridge_weights, supports
from recsys_spark.runtime.task import PYTHON_BYTES
from recsys_spark.tables.contract import ARROW_TYPES
from recsys_spark.tables.task_stream import ArrowTransform, TaskStats
from recsys_spark.topk.join import USER_COLUMNS
from recsys_spark.topk.kernels.running_topk import EMPTY, Entries, RunningTopK, ordinals_of
from recsys_spark.topk.lists import ListRules, Rows, locate_items
from recsys_spark.topk.profile_scorer import ProfileScorer

WEIGHTS_DDL = "item_id string, neighbor_id string, weight float"

_PASSES = 32

_SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class WeightFit:
    """Settings that weights depend on, besides the features.

    Args:
        candidates: maximum number of items that the score of an item sums over.
        vector_weight, word_weight: number of common users that a cosine of 1 of the vectors, or of the words, is worth.
        user_weight: weight of a common user; 0 for weights from text only.
        ridge: λ, in users.
        shrink: shrinkage of the co-occurrence cosines of candidates, in users.
        text_share: weight of the text cosines, relative to co-occurrence, in the choice of candidates.
        nprobe: item clusters that are searched for text neighbours; 0 for all.
    """

    candidates: int = 100
    vector_weight: float = 3.0
    word_weight: float = 3.0
    user_weight: float = 1.0
    ridge: float = 100.0
    shrink: float = 20.0
    text_share: float = 0.2
    nprobe: int = 0


_SCIPY_BYTES = 20_000_000


def fit_bytes(items: ItemBlocks, fit: WeightFit, targets_at_once: int = 512) -> int:
    """Estimate the peak memory of a task's Python process in bytes.

    It is the sum of: the interpreter and its libraries; two item blocks; the candidates of one; the features of the
    candidates of some targets, three times ``fit.candidates`` each, with 100 users and words each; 64 systems of
    equations.
    """
    item = 4 * items.dimension + 100 * 16 + 64
    fetched = min(3 * fit.candidates * targets_at_once, items.rows)
    lists = min(items.block_rows, items.rows, _PASSES * targets_at_once) * fit.candidates * 100
    return (
        PYTHON_BYTES
        + _SCIPY_BYTES
        + 2 * items.block_rows * item
        + lists
        + 3 * fetched * item
        + 64 * fit.candidates**2 * 24
    )


def weight_rows(
    items: ItemBlocks, fit: WeightFit, targets_at_once: int = 512, tasks: int | None = None
) -> ArrowTransform:
    """Transform ``part`` (of ``parts_of`` with the same ``tasks``) to ``item_id, neighbor_id, weight``.

    If blocks have a column ``due``, only items with a positive value are fitted. Neighbours are items that have a user.
    Weights of 0 are left out. Stats of a task: ``items``, and ``without``, the items without a neighbour.
    """

    def transform(batches: Iterator[pa.RecordBatch], stats: TaskStats) -> Iterator[pa.RecordBatch]:
        stats |= {"items": 0, "without": 0}
        for batch in batches:
            for part in batch["part"].to_pylist():
                block = _targets(items, range(part, len(items.paths), tasks or len(items.paths)))
                for start in range(0, block.num_rows, _PASSES * targets_at_once):  # one pass over all blocks
                    targets = block.slice(start, _PASSES * targets_at_once)
                    candidates = _candidates(items, targets, fit)
                    stats["items"] += len(candidates)
                    for rows, fitted in _fitted(items, targets, candidates, fit, targets_at_once):
                        stats["without"] += rows - len(pc.unique(fitted["item_id"]))
                        yield fitted

    return transform


def _targets(items: ItemBlocks, numbers: range) -> pa.RecordBatch:
    """The items to fit of the blocks with these numbers."""
    targets = []
    for number in numbers:
        block = items.block(number)
        targets.append(block.filter(pc.greater(block["due"], 0)) if "due" in block.schema.names else block)
    return pa.concat_batches(targets) if len(targets) > 1 else targets[0]


def _candidates(items: ItemBlocks, targets: pa.RecordBatch, fit: WeightFit) -> NDArray[np.int64]:
    """(t, 3·candidates) ordinals: the nearest by text, and twice as many by co-occurrence; −1 for none."""
    count = targets.num_rows
    texts = ProfileScorer(_as_users(targets), items, fit.candidates, ListRules(min_score=_SMALLEST, nprobe=fit.nprobe))
    users = _CoOccurrence(targets, 2 * fit.candidates, fit.shrink)
    for block in items.blocks():
        warm = block.filter(pc.greater(pc.list_value_length(block["users"]), 0))
        if warm.num_rows:
            texts.update(warm)
            users.update(warm)
    candidates = np.full((count, 3 * fit.candidates), -1, np.int64)
    rows = pc.index_in(texts.ids, targets["item_id"]).to_numpy()
    candidates[rows, : fit.candidates] = _ordinals(texts.best)
    candidates[:, fit.candidates :] = _ordinals(users.best)
    return candidates


def _ordinals(entries: Entries) -> NDArray[np.int64]:
    """Ordinals of entries; −1 for EMPTY."""
    return np.where(entries == EMPTY, -1, ordinals_of(entries))


def _as_users(targets: pa.RecordBatch) -> pa.Table:
    """Targets as users of the join; a target is excluded from its neighbours."""
    # flatten() heeds that targets are a slice of a block; values would be those of the whole block.
    vectors = targets["embedding"].flatten().to_numpy().reshape(targets.num_rows, -1)
    seen = pa.ListArray.from_arrays(np.arange(targets.num_rows + 1, dtype=np.int32), targets["item_id"])
    kinds = {name: ARROW_TYPES[kind] for name, kind in USER_COLUMNS.items()}
    absent = {name: pa.nulls(targets.num_rows, kind) for name, kind in kinds.items()}
    return pa.table(absent | {"user_id": targets["item_id"], "embedding": as_lists(vectors), "seen": seen})


class _CoOccurrence:
    """The items of greatest co-occurrence with each target, over the blocks so far."""

    def __init__(self, targets: pa.RecordBatch, limit: int, shrink: float) -> None:
        self._vocabulary, self._users = code_matrix(targets["users"], _user_values(targets))
        self._counts = _user_counts(targets)
        self._ordinals, self._shrink = targets["ordinal"].to_numpy(), shrink
        self._running = RunningTopK(np.empty((targets.num_rows, 0), np.float32), limit, min_score=_SMALLEST)

    def update(self, block: pa.RecordBatch) -> None:
        """Score the items of a block by the users that they share with the targets."""
        if not len(self._vocabulary):
            return
        users = code_matrix_within(block["users"], self._vocabulary, _user_values(block))
        counts = _user_counts(block)
        ordinals = block["ordinal"].to_numpy()
        for first in range(0, len(self._counts), 1024):
            common = sp.csr_array(self._users[first : first + 1024] @ users.T)
            rows = first + np.repeat(np.arange(common.shape[0]), np.diff(common.indptr))
            scores = co_occurrence(common.data, self._counts[rows], counts[common.indices], self._shrink)
            distinct = ordinals[common.indices] != self._ordinals[rows]
            rows, columns, scores = rows[distinct], common.indices[distinct], scores[distinct]
            self._running.offer(rows, scores.astype(np.float32), ordinals[columns])

    @property
    def best(self) -> Entries:
        """(t, limit) entries."""
        return self._running.entries


def _user_values(block: pa.RecordBatch) -> pa.ListArray | None:
    """The roots of the trust in the users of each item; None if all are trusted."""
    return block["user_values"] if "user_values" in block.schema.names else None


def _user_counts(block: pa.RecordBatch) -> NDArray[np.float64]:
    """The users of each item, a user as much as his trust. Trust is a power of four, so that sums are exact."""
    values = _user_values(block)
    if values is None:
        return np.asarray(pc.list_value_length(block["users"]).to_numpy().astype(np.float64))
    roots, offsets = flat(values)
    return np.asarray(np.diff(np.concatenate([[0.0], np.cumsum(roots.astype(np.float64) ** 2)])[offsets]))


def _fitted(
    items: ItemBlocks, targets: pa.RecordBatch, candidates: NDArray[np.int64], fit: WeightFit, at_once: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield (number of targets, their weights) for at most ``at_once`` targets at a time.

    One pass over all blocks fetches the features for as many targets as need no more items than ``at_once`` targets
    could: neighbouring targets need mostly the same items.
    """
    ordinals, first = targets["ordinal"].to_numpy(), 0
    while first < len(ordinals):
        last, needed = first, ordinals[:0]
        while last < len(ordinals):
            part = slice(last, last + at_once)
            extended = np.unique(np.concatenate([needed, ordinals[part], candidates[part][candidates[part] >= 0]]))
            if last > first and len(extended) > 3 * fit.candidates * at_once:
                break
            last, needed = last + at_once, extended
        ids, features = _features(items, needed)
        for start in range(first, min(last, len(ordinals)), at_once):
            part = slice(start, start + at_once)
            rows = np.searchsorted(needed, ordinals[part])
            yield len(rows), _weights(ids, features, rows, _rows_of(candidates[part], needed), fit)
        first = last


def _rows_of(candidates: NDArray[np.int64], needed: Rows) -> NDArray[np.int64]:
    """Candidates as rows of ``needed``, ascending and distinct in each row; −1 for none."""
    return _distinct(np.where(candidates >= 0, np.searchsorted(needed, candidates), -1))


def _weights(
    ids: pa.Array, features: Features, rows: Rows, candidates: NDArray[np.int64], fit: WeightFit
) -> pa.RecordBatch:
    support = supports(features, rows, candidates, fit.candidates, shrink=fit.shrink, text_share=fit.text_share)
    weights = ridge_weights(
        features,
        rows,
        support,
        vector_weight=fit.vector_weight,
        word_weight=fit.word_weight,
        user_weight=fit.user_weight,
        ridge=fit.ridge,
    )
    target, column = np.nonzero((support >= 0) & (weights != 0))
    columns = [
        ids.take(pa.array(rows[target])),
        ids.take(pa.array(support[target, column])),
        pa.array(weights[target, column]),
    ]
    return pa.RecordBatch.from_arrays(columns, names=["item_id", "neighbor_id", "weight"])


def _distinct(candidates: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each row ascending and without repeats; repeats become −1."""
    ordered = np.sort(candidates, axis=1)
    ordered[:, 1:][ordered[:, 1:] == ordered[:, :-1]] = -1
    return np.sort(ordered, axis=1)


def _features(items: ItemBlocks, ordinals: Rows) -> tuple[pa.Array, Features]:
    """Ids and features of items, in the order of ``ordinals`` (distinct)."""
    names = ["item_id", "users", "words", "word_values", "embedding"]
    positions, parts = [], []
    for part, block, rows in locate_items(items.blocks(), ordinals):
        positions.append(part)
        present = [name for name in (*names, "user_values") if name in block.schema.names]
        parts.append(block.select(present).take(pa.array(rows)))
    table = pa.Table.from_batches(parts).combine_chunks().take(pa.array(np.argsort(np.concatenate(positions))))
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    vectors = columns["embedding"].flatten().to_numpy().reshape(table.num_rows, -1)
    _, users = code_matrix(columns["users"], columns.get("user_values"))
    _, words = code_matrix(columns["words"], columns["word_values"])
    return columns["item_id"], Features(users, words, vectors)
