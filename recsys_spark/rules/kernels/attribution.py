"""How many candidates each rule removes, raises or places, for groups of users and classes of items."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys_spark.topk.kernels.rule_masks import Links, Mask, Rows, RuleTable, pins_of_groups

Counts = NDArray[np.int64]

CLASSES_AT_ONCE = 8192


class Attribution:
    """Sums over the classes of items that are added, part by part."""

    def __init__(self, groups: sp.csr_array, table: RuleTable, rules: int) -> None:
        """Start at zero.

        Args:
            groups: (G, user atoms).
            table: the rules.
            rules: their number.
        """
        self._groups, self._table = groups, table
        self._pinned = pins_of_groups(groups, table.pins)
        self.counts: Counts = np.zeros((groups.shape[0], rules), np.int64)
        """(G, rules): candidates that a rule removed, raised or placed."""
        self.removed: Counts = np.zeros(groups.shape[0], np.int64)
        """(G,) candidates that any rule removed: the sum of what each removed."""

    def add(self, classes: sp.csr_array, sizes: Counts, pinned_ids: Sequence[str | None]) -> None:
        """Add classes of items: (C, item atoms), (C,) items of each, (C,) the item of a class that is pinned."""
        removed = np.zeros((self._groups.shape[0], classes.shape[0]), bool)
        for rule in np.unique(self._table.removals.rules).tolist():
            hit = self._hit(classes, self._table.removals, rule)
            if hit is not None:
                new = hit & ~removed & ~self._lifted(pinned_ids, rule)
                removed |= new
                self.counts[:, rule] += new @ sizes
        self.removed += removed @ sizes
        for rule in np.unique(self._table.boosts.rules).tolist():
            hit = self._hit(classes, self._table.boosts, rule)
            if hit is not None:
                self.counts[:, rule] += (hit & ~removed) @ sizes
        for number, pin in enumerate(self._table.pins):
            for column in (n for n, name in enumerate(pinned_ids) if name == pin.item_id):
                self.counts[:, pin.rule] += self._pinned[:, number] & ~removed[:, column]

    def _hit(self, classes: sp.csr_array, links: Links, rule: int) -> Mask | None:
        """(G, C): the pairs that a rule holds for; None if there are none."""
        part = slice(*np.searchsorted(links.rules, (rule, rule + 1)))
        few = Links(links.users[part], links.items[part], links.rules[part])
        linked = self._groups @ few.matrix(self._groups.shape[1], classes.shape[1])
        return (classes @ linked.toarray().T).T > 0 if linked.nnz else None

    def _lifted(self, pinned_ids: Sequence[str | None], rule: int) -> Mask:
        """(G, C): pinned pairs that a rule of lower priority does not remove."""
        lifted = np.zeros((self._groups.shape[0], len(pinned_ids)), bool)
        for number, pin in enumerate(self._table.pins):
            if rule not in pin.bars:
                for column in (n for n, name in enumerate(pinned_ids) if name == pin.item_id):
                    lifted[:, column] |= self._pinned[:, number]
        return lifted


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
