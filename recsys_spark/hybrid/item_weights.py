"""Item features to item-item weights: candidates by blockwise joins of items with themselves, then a ridge per item.

A task takes a block of items as targets and lets all blocks pass twice: once to find candidates, once to fetch the
features of those it found. No pair of items is ever a row of a shuffle.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys_spark.arrays.arrow import as_lists
from recsys_spark.arrays.sparse import code_matrix, code_matrix_within
from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.hybrid.kernels.item_ridge import Features, co_occurrence, ridge_weights, supports
from recsys_spark.tables.schemas import ARROW_TYPES
from recsys_spark.tables.task_stream import ArrowTransform, TaskStats
from recsys_spark.topk.join import USER_COLUMNS
from recsys_spark.topk.kernels.running_topk import EMPTY, Entries, RunningTopK, ordinals_of
from recsys_spark.topk.lists import ListRules, Rows, where_found
from recsys_spark.topk.profile_scorer import ProfileScorer

WEIGHTS_DDL = "item_id string, neighbor_id string, weight float"

_PASSES = 32

_SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class WeightFit:
    """What weights depend on, beside the features.

    Args:
        candidates: items that an item's score is a sum over, at most.
        vector_weight, word_weight: how many users in common a cosine of 1 of the vectors, or of the words, counts.
        user_weight: what a user in common counts; 0 for weights of text alone.
        ridge: λ, in users.
        shrink: users by which co-occurrence cosines of candidates are shrunk.
        text_share: what the text counts beside co-occurrence in the choice of candidates.
        nprobe: lists of items in which text neighbours are looked for; 0 for all.
    """

    candidates: int = 100
    vector_weight: float = 3.0
    word_weight: float = 3.0
    user_weight: float = 1.0
    ridge: float = 100.0
    shrink: float = 20.0
    text_share: float = 0.2
    nprobe: int = 0


def fit_bytes(items: ItemBlocks, fit: WeightFit, targets_at_once: int = 512) -> int:
    """About the most memory of a task's Python process: the interpreter and its libraries; two item blocks; the
    candidates of one; the features of the candidates of some targets, three times as many as are kept, with 100 users
    and words each; 64 systems of equations."""
    item = 4 * items.dimension + 100 * 16 + 64
    found = min(3 * fit.candidates * targets_at_once, items.rows)
    lists = min(items.block_rows, items.rows, _PASSES * targets_at_once) * fit.candidates * 100
    return 230_000_000 + 2 * items.block_rows * item + lists + 3 * found * item + 64 * fit.candidates**2 * 24


def weight_rows(
    items: ItemBlocks, fit: WeightFit, targets_at_once: int = 512, tasks: int | None = None
) -> ArrowTransform:
    """``part`` (of ``parts_of``, with as many ``tasks``) to ``item_id, neighbor_id, weight``; of items that are ``due``
    only, where blocks say so.

    Neighbours are items that somebody had. Weights that are 0 are left out; notes ``items`` and those ``without`` any
    neighbour.
    """

    def make(batches: Iterator[pa.RecordBatch], notes: TaskStats) -> Iterator[pa.RecordBatch]:
        notes |= {"items": 0, "without": 0}
        for batch in batches:
            for part in batch["part"].to_pylist():
                block = _targets(items, range(part, len(items.paths), tasks or len(items.paths)))
                for start in range(0, block.num_rows, _PASSES * targets_at_once):  # all other blocks pass once
                    targets = block.slice(start, _PASSES * targets_at_once)
                    found = _candidates(items, targets, fit)
                    notes["items"] += len(found)
                    for rows, fitted in _fitted(items, targets, found, fit, targets_at_once):
                        notes["without"] += rows - len(pc.unique(fitted["item_id"]))
                        yield fitted

    return make


def _targets(items: ItemBlocks, numbers: range) -> pa.RecordBatch:
    """The items of some blocks that are to be fitted."""
    found = []
    for number in numbers:
        block = items.block(number)
        found.append(block.filter(pc.greater(block["due"], 0)) if "due" in block.schema.names else block)
    return pa.concat_batches(found) if len(found) > 1 else found[0]


def _candidates(items: ItemBlocks, targets: pa.RecordBatch, fit: WeightFit) -> NDArray[np.int64]:
    """(t, ·) ordinals: nearest by text, and twice as many by co-occurrence; −1 for none."""
    count = targets.num_rows
    texts = ProfileScorer(_as_users(targets), items, fit.candidates, ListRules(min_score=_SMALLEST, nprobe=fit.nprobe))
    users = _CoOccurrence(targets, 2 * fit.candidates, fit.shrink)
    for block in items.blocks():
        had = block.filter(pc.greater(pc.list_value_length(block["users"]), 0))
        if had.num_rows:
            texts.update(had)
            users.update(had)
    found = np.full((count, 3 * fit.candidates), -1, np.int64)
    rows = pc.index_in(texts.ids, targets["item_id"]).to_numpy()
    found[rows, : fit.candidates] = _ordinals(texts.best)
    found[:, fit.candidates :] = _ordinals(users.best)
    return found


def _ordinals(places: Entries) -> NDArray[np.int64]:
    return np.where(places == EMPTY, -1, ordinals_of(places))


def _as_users(targets: pa.RecordBatch) -> pa.Table:
    """Items in the place of users; none is its own neighbour."""
    vectors = targets["embedding"].flatten().to_numpy().reshape(targets.num_rows, -1)  # of a slice, its own rows
    own = pa.ListArray.from_arrays(np.arange(targets.num_rows + 1, dtype=np.int32), targets["item_id"])
    kinds = {name: ARROW_TYPES[kind] for name, kind in USER_COLUMNS.items()}
    nothing = {name: pa.nulls(targets.num_rows, kind) for name, kind in kinds.items()}
    return pa.table(nothing | {"user_id": targets["item_id"], "embedding": as_lists(vectors), "seen": own})


class _CoOccurrence:
    """The items that share most users with each target, of the blocks so far."""

    def __init__(self, targets: pa.RecordBatch, most: int, shrink: float) -> None:
        self._vocabulary, self._users = code_matrix(targets["users"])
        self._counts = np.diff(self._users.indptr).astype(np.float64)
        self._ordinals, self._shrink = targets["ordinal"].to_numpy(), shrink
        self._running = RunningTopK(np.empty((targets.num_rows, 0), np.float32), most, least=_SMALLEST)

    def update(self, block: pa.RecordBatch) -> None:
        """Count the users in common with the items of a block."""
        if not len(self._vocabulary):
            return
        users = code_matrix_within(block["users"], self._vocabulary)
        counts = pc.list_value_length(block["users"]).to_numpy().astype(np.float64)
        ordinals = block["ordinal"].to_numpy()
        for first in range(0, len(self._counts), 1024):
            common = sp.csr_array(self._users[first : first + 1024] @ users.T)
            rows = first + np.repeat(np.arange(common.shape[0]), np.diff(common.indptr))
            scores = co_occurrence(common.data, self._counts[rows], counts[common.indices], self._shrink)
            other = ordinals[common.indices] != self._ordinals[rows]
            rows, columns, scores = rows[other], common.indices[other], scores[other]
            self._running.offer(rows, scores.astype(np.float32), ordinals[columns])

    @property
    def best(self) -> Entries:
        """(t, most) places."""
        return self._running.entries


def _fitted(
    items: ItemBlocks, targets: pa.RecordBatch, found: NDArray[np.int64], fit: WeightFit, at_once: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(targets, their weights), ``at_once`` targets or fewer. All blocks pass for as many of them as ask for no more
    items than ``at_once`` might: those that lie together ask for the same ones."""
    own, first = targets["ordinal"].to_numpy(), 0
    while first < len(own):
        last, needed = first, own[:0]
        while last < len(own):
            part = slice(last, last + at_once)
            more = np.unique(np.concatenate([needed, own[part], found[part][found[part] >= 0]]))
            if last > first and len(more) > 3 * fit.candidates * at_once:
                break
            last, needed = last + at_once, more
        ids, features = _features(items, needed)
        for start in range(first, min(last, len(own)), at_once):
            part = slice(start, start + at_once)
            yield (
                len(own[part]),
                _weights(ids, features, np.searchsorted(needed, own[part]), _places(found[part], needed), fit),
            )
        first = last


def _places(found: NDArray[np.int64], needed: Rows) -> NDArray[np.int64]:
    return _distinct(np.where(found >= 0, np.searchsorted(needed, found), -1))


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
    target, place = np.nonzero((support >= 0) & (weights != 0))
    columns = [
        ids.take(pa.array(rows[target])),
        ids.take(pa.array(support[target, place])),
        pa.array(weights[target, place]),
    ]
    return pa.RecordBatch.from_arrays(columns, names=["item_id", "neighbor_id", "weight"])


def _distinct(candidates: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each row ascending, every number once, −1 elsewhere."""
    ordered = np.sort(candidates, axis=1)
    ordered[:, 1:][ordered[:, 1:] == ordered[:, :-1]] = -1
    return np.sort(ordered, axis=1)


def _features(items: ItemBlocks, ordinals: Rows) -> tuple[pa.Array, Features]:
    """The ids and features of items, in the order of ``ordinals`` (distinct)."""
    names = ["item_id", "users", "words", "word_values", "embedding"]
    places, parts = [], []
    for where, block, rows in where_found(items.blocks(), ordinals):
        places.append(where)
        parts.append(block.select(names).take(pa.array(rows)))
    table = pa.Table.from_batches(parts).combine_chunks().take(pa.array(np.argsort(np.concatenate(places))))
    columns = {name: table[name].combine_chunks() for name in names}
    vectors = columns["embedding"].flatten().to_numpy().reshape(table.num_rows, -1)
    _, users = code_matrix(columns["users"])
    _, words = code_matrix(columns["words"], columns["word_values"])
    return columns["item_id"], Features(users, words, vectors)
