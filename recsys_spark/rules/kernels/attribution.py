"""How many candidates each rule removes, raises or places, for groups of users and classes of items."""

from collections.abc import Container, Sequence

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys_spark.topk.kernels.rule_masks import Links, Mask, Rows, RuleTable, pins_of_groups

Counts = NDArray[np.int64]

CLASSES_AT_ONCE = 8192

NONE = np.int32(np.iinfo(np.int32).max)


class Attribution:
    """Sums over the classes of items that are added, part by part."""

    def __init__(self, groups: sp.csr_array, table: RuleTable, rules: int) -> None:
        """Start at zero.

        Args:
            groups: (G, user atoms).
            table: the rules.
            rules: their number.
        """
        self._on, self._table = groups.toarray() > 0, table
        self._ranks = _ranks(self._on, table.removals, len(table.item_atoms))
        self._pinned = pins_of_groups(groups, table.pins)
        self.counts: Counts = np.zeros((len(self._on), rules), np.int64)
        """(G, rules): candidates that a rule removed, raised or placed."""
        self.removed: Counts = np.zeros(len(self._on), np.int64)
        """(G,) candidates that any rule removed: the sum of what each removed."""

    def add(self, classes: sp.csr_array, sizes: Counts, pinned_ids: Sequence[str | None]) -> None:
        """Add classes of items: (C, item atoms), (C,) items of each, (C,) the item of a class that is pinned."""
        if not classes.shape[0]:
            return
        first = np.minimum.reduceat(self._ranks[:, classes.indices], classes.indptr[:-1], axis=1)
        columns = {name: column for column, name in enumerate(pinned_ids) if name is not None}
        for number, pin in enumerate(self._table.pins):
            if pin.item_id in columns:
                atoms = classes[[columns[pin.item_id]]].indices
                barred = _ranks(self._on, self._table.removals, classes.shape[1], pin.bars)[:, atoms].min(axis=1)
                held, column = self._pinned[:, number], columns[pin.item_id]
                first[held, column] = barred[held]
                self.counts[:, pin.rule] += held & (first[:, column] == NONE)
        removed, rules = first != NONE, self.counts.shape[1]
        groups, places = np.nonzero(removed)
        of_rules = np.bincount(groups * rules + first[groups, places], sizes[places], self.counts.size)
        self.counts += of_rules.astype(np.int64).reshape(self.counts.shape)
        self.removed += removed @ sizes
        for rule in np.unique(self._table.boosts.rules).tolist():
            hit = _ranks(self._on, self._table.boosts, classes.shape[1], {rule}) != NONE
            raised = (classes @ hit.T.astype(np.float32)).T > 0
            self.counts[:, rule] += (raised & ~removed) @ sizes


def _ranks(on: Mask, links: Links, items: int, rules: Container[int] | None = None) -> NDArray[np.int32]:
    """(G, item atoms): the number of the first rule (of ``rules``) that links a group with an item atom, or NONE."""
    ranks = np.full((len(on), items), NONE)
    for user, item, rule in zip(links.users.tolist(), links.items.tolist(), links.rules.tolist(), strict=True):
        if rules is None or rule in rules:
            ranks[:, item] = np.minimum(ranks[:, item], np.where(on[:, user], np.int32(rule), NONE))
    return ranks


def touching(counts: Counts, ids: Sequence[str], actions: Sequence[str]) -> tuple[pa.Array, pa.Array, pa.Array]:
    """(ids, actions, counts) as a list for each group: of the rules that did something, in their order."""
    rows, rules = np.nonzero(counts)
    offsets = pa.array(np.searchsorted(rows, np.arange(len(counts) + 1)), pa.int32())
    columns = (
        pa.array(ids, pa.string()).take(pa.array(rules)),
        pa.array(actions, pa.string()).take(pa.array(rules)),
        pa.array(counts[rows, rules]),
    )
    return tuple(pa.ListArray.from_arrays(offsets, column) for column in columns)


def sizes_of(column: pa.Array) -> Rows:
    """A column of counts."""
    return column.to_numpy(zero_copy_only=False).astype(np.int64)
