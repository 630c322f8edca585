"""The rules of a rule base for a batch of users, item block by item block."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys_spark.arrays.sparse import flat
from recsys_spark.topk.kernels.routes import Barred
from recsys_spark.topk.kernels.rule_masks import (
    Links,
    Rows,
    RuleTable,
    atom_matrix,
    barred_classes,
    distinct_lists,
    pins_of_groups,
)

ATOMS = "rule_atoms"
"""Column of users and items: the atoms that they have, without ALL."""


class BatchRules:
    """The groups of a batch of users, and what the rules do with them."""

    def __init__(self, part: pa.Table, table: RuleTable) -> None:
        values, offsets = flat(part[ATOMS].combine_chunks())
        first, self._groups = distinct_lists(values, offsets)
        self.table, self._on = table, atom_matrix(values, offsets, first, table.user_atoms)
        self._pinned = pins_of_groups(self._on, table.pins)

    @cached_property
    def booster_columns(self) -> NDArray[np.float32]:
        """(B, D): whether a user has each booster. The product with ``BlockRules.boosts`` is the boost of a pair."""
        return self._on.tocsc()[:, self.table.boosters].toarray()[self._groups]

    def within(self, block: pa.RecordBatch) -> "BlockRules":
        """The rules within a block."""
        values, offsets = flat(block[ATOMS])
        first, classes = distinct_lists(values, offsets)
        kinds = atom_matrix(values, offsets, first, self.table.item_atoms)
        bits = barred_classes(self._on, kinds, self.table.removals)
        barred = Barred(bits, self._groups, classes) if bits.any() else None
        boosts = (kinds @ self.table.boost_matrix()).toarray().astype(np.float32)[classes]
        return BlockRules(barred, boosts, self._pins_within(block))

    def boosts(self, rows: Rows, atoms: pa.ListArray, items: Rows) -> NDArray[np.float32]:
        """The boosts of pairs of users and items, whose atoms are given."""
        if not len(self.table.boosters):
            return np.zeros(len(rows), np.float32)
        values, offsets = flat(atoms)
        first, classes = distinct_lists(values, offsets)
        kinds = atom_matrix(values, offsets, first, self.table.item_atoms)
        raised = (kinds @ self.table.boost_matrix()).toarray().astype(np.float32)
        return np.einsum("ij,ij->i", self.booster_columns[rows], raised[classes[items]])

    def _pins_within(self, block: pa.RecordBatch) -> dict[int, tuple[Rows, Rows]]:
        """By number of the pin, the pairs that it holds for: unless a rule of higher priority removes them."""
        pinned: dict[int, tuple[Rows, Rows]] = {}
        if not self.table.pins:
            return pinned
        names = pa.array([pin.item_id for pin in self.table.pins], pa.string())
        columns = pc.index_in(names, block["item_id"])
        for number, pin in enumerate(self.table.pins):
            if columns[number].is_valid:
                column = columns[number].as_py()
                held = self._pinned[:, number] & ~self._removed(block[ATOMS][column : column + 1], pin.bars)
                rows = np.flatnonzero(held[self._groups])
                pinned[number] = rows, np.full(len(rows), column)
        return pinned

    def _removed(self, atoms: pa.ListArray, bars: frozenset[int]) -> NDArray[np.bool_]:
        """(G,) whether some of the rules remove an item."""
        links = self.table.removals
        kept = np.isin(links.rules, list(bars))
        few = Links(links.users[kept], links.items[kept], links.rules[kept])
        values, offsets = flat(atoms)
        kinds = atom_matrix(values, offsets, np.zeros(1, np.int64), self.table.item_atoms)
        return barred_classes(self._on, kinds, few)[:, 0] > 0


@dataclass(frozen=True)
class BlockRules:
    """The rules of a batch of users within a block.

    Args:
        barred: pairs that must not be listed.
        boosts: (n, D), by how much an item is raised for the users that have a booster.
        pins: by number of the pin, the pairs that it holds for.
    """

    barred: Barred | None
    boosts: NDArray[np.float32]
    pins: dict[int, tuple[Rows, Rows]]
