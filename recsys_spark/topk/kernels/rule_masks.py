"""Rules of a rule base as arrays: the pairs of users and items that they remove, raise and place.

A rule holds for the pairs of the users that have its user atom and the items that have its item atom. An atom is a
condition that is true of the user or the item, or one value that a condition compares. Users with the same atoms are a
group, items with the same atoms a class: only groups and classes are compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys_spark.topk.kernels.running_topk import EMPTY, Entries, ordinals_of

Rows = NDArray[np.int64]

Mask = NDArray[np.bool_]

ALL = np.int64(np.iinfo(np.int64).min)
"""The atom that every user and every item has."""

_GROUPS_AT_ONCE = 512


@dataclass(frozen=True)
class Pin:
    """An item that has a place in the lists of the users with an atom.

    Args:
        item_id: the item.
        place: its rank, from 1.
        user: index of the user atom.
        rule: number of its rule.
        bars: numbers of the rules that remove the item nevertheless: those of higher priority.
    """

    item_id: str
    place: int
    user: int
    rule: int
    bars: frozenset[int] = frozenset()


@dataclass(frozen=True, eq=False)
class Links:
    """Pairs of atoms, as indices, and the number of the rule that holds for them. Each (L,), by number of the rule."""

    users: Rows
    items: Rows
    rules: Rows

    @classmethod
    def of(cls, rows: Sequence[tuple[int, int, int]]) -> "Links":
        """Links of (user atom, item atom, rule), in the order of the rules."""
        users, items, rules = np.array(sorted(rows, key=lambda row: row[2]), np.int64).reshape(-1, 3).T
        return cls(users, items, rules)

    def matrix(self, users: int, items: int) -> sp.csr_array:
        """(users, items): which pairs of atoms are linked."""
        ones = np.ones(len(self.users), np.float32)
        return sp.csr_array((ones, (self.users, self.items)), shape=(users, items))


@dataclass(frozen=True, eq=False)
class RuleTable:
    """All rules of a run. Small: it is serialized into every task.

    Args:
        user_atoms, item_atoms: (U,) and (I,), ascending; the first is ALL.
        removals: pairs that must not be listed.
        boosts: pairs whose score is raised.
        raises: (L,) by how much.
        pins: in the order of their rules.
    """

    user_atoms: Rows
    item_atoms: Rows
    removals: Links
    boosts: Links
    raises: NDArray[np.float64]
    pins: tuple[Pin, ...] = ()

    @property
    def boosters(self) -> Rows:
        """(D,) user atoms with boosts, ascending. A boost of a pair is the sum over these."""
        return np.unique(self.boosts.users)

    def boost_matrix(self) -> sp.csr_array:
        """(I, D): by how much an item atom raises the scores of users with a booster."""
        columns = np.searchsorted(self.boosters, self.boosts.users)
        shape = (len(self.item_atoms), len(self.boosters))
        return sp.csr_array((self.raises, (self.boosts.items, columns)), shape=shape)


def distinct_lists(values: Rows, offsets: Rows) -> tuple[Rows, Rows]:
    """Group n lists of atoms, each without repeats: (one row of each group, the group of each row).

    Lists are compared by the sum of 64-bit hashes of their values, in any order.
    """
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(_mixed(values))])
    _, first, groups = np.unique(sums[offsets[1:]] - sums[offsets[:-1]], return_index=True, return_inverse=True)
    return first, groups.ravel()


def _mixed(values: Rows) -> NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    with np.errstate(over="ignore"):
        mixed = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))


def atom_matrix(values: Rows, offsets: Rows, rows: Rows, atoms: Rows) -> sp.csr_array:
    """(rows, atoms): which of the ``atoms`` these lists have. All have the first."""
    starts, lengths = offsets[rows], (offsets[1:] - offsets[:-1])[rows]
    places = np.repeat(starts - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
    wanted, owners = values[places], np.repeat(np.arange(len(rows)), lengths)
    columns = np.searchsorted(atoms, wanted).clip(max=len(atoms) - 1)
    matches = atoms[columns] == wanted
    owners = np.concatenate([np.arange(len(rows)), owners[matches]])
    columns = np.concatenate([np.zeros(len(rows), np.int64), columns[matches]])
    matrix = sp.csr_array((np.ones(len(owners), np.float32), (owners, columns)), shape=(len(rows), len(atoms)))
    matrix.sum_duplicates()
    return matrix


def barred_classes(groups: sp.csr_array, classes: sp.csr_array, links: Links) -> NDArray[np.uint8]:
    """(G, ⌈C/8⌉) bits: the classes of items that the links remove for each group of users.

    Args:
        groups: (G, user atoms).
        classes: (C, item atoms).
        links: between these atoms.
    """
    linked = links.matrix(groups.shape[1], classes.shape[1])
    bits = np.zeros((groups.shape[0], -(-classes.shape[0] // 8)), np.uint8)
    for first in range(0, groups.shape[0], _GROUPS_AT_ONCE):
        part = slice(first, first + _GROUPS_AT_ONCE)
        removed = (groups[part] @ linked).toarray() > 0
        bits[part] = np.packbits((classes @ removed.T.astype(np.float32)).T > 0, axis=1)
    return bits


def pins_of_groups(groups: sp.csr_array, pins: Sequence[Pin]) -> Mask:
    """(G, P): which pins hold for a group. Of several for one place, or of one item, the first holds."""
    dense = groups.toarray() > 0
    holds = np.zeros((len(dense), len(pins)), bool)
    for number, pin in enumerate(pins):
        rivals = [n for n in range(number) if pins[n].place == pin.place or pins[n].item_id == pin.item_id]
        holds[:, number] = dense[:, pin.user] & ~holds[:, rivals].any(axis=1)
    return holds


def with_pins(entries: Entries, pinned: Entries, places: Sequence[int]) -> Entries:
    """(B, k) lists with the pinned entries at their places, and the others in their order around them.

    Args:
        entries: (B, k) lists.
        pinned: (B, P), EMPTY where a user has no such pin.
        places: (P,) ranks from 1 to k. In a list that is too short a pinned item is the last one.
    """
    others, chosen = entries.copy(), np.full(entries.shape, EMPTY)
    for column, place in enumerate(places):
        held = pinned[:, column] != EMPTY
        chosen[held, place - 1] = pinned[held, column]
        same = held[:, None] & (ordinals_of(others) == ordinals_of(pinned[:, column])[:, None]) & (others != EMPTY)
        others[same] = EMPTY
    others = _to_the_left(others)
    free = chosen == EMPTY
    rank = (np.cumsum(free, axis=1) - 1).clip(min=0)
    return _to_the_left(np.where(free, np.take_along_axis(others, rank, axis=1), chosen))


def _to_the_left(entries: Entries) -> Entries:
    """The same entries in their order, EMPTY ones last."""
    order = np.argsort(entries == EMPTY, axis=1, kind="stable")
    return np.take_along_axis(entries, order, axis=1)
