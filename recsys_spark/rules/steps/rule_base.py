"""The rules of a day on the tables of a lake: atoms of items and users, and the rules as arrays."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import UsageError
from recsys_spark.rules.conditions import (
    ATOM,
    item_values,
    pair_values,
    true_ones,
    user_values,
    with_item_atoms,
    with_quota_group,
    with_user_atoms,
)
from recsys_spark.rules.conflicts import Conflict, conflicts
from recsys_spark.rules.links import table_of
from recsys_spark.rules.rule_file import RuleBook
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.topk.batch_rules import ATOMS
from recsys_spark.topk.kernels.rule_masks import ALL, RuleTable
from recsys_spark.topk.rules import is_available

MOST_VALUES = 20_000
"""Distinct values of items that a condition on pairs may compare every user with."""


@dataclass(frozen=True)
class RuleFrames:
    """The tables that conditions read; ``users`` may be missing. ``events``: before the run date."""

    items: DataFrame
    users: DataFrame | None
    events: DataFrame


class RuleBase:
    """The rules of a day, applied to the tables of a run."""

    def __init__(self, run: Run, book: RuleBook, frames: RuleFrames, day: date) -> None:
        self.book, self._run, self.frames, self.day = book, run, frames, day

    @cached_property
    def table(self) -> RuleTable:
        """The rules as arrays, after all checks that need the tables.

        Raises:
            UsageError: rules that contradict each other, that ban everything, or that cannot be applied.
        """
        atoms, pinned = self._compared[1], self._pinned_items()
        table = table_of(self.book, atoms, pinned)
        self._check_not_all_banned()
        self._check_conflicts(table)
        return table

    def with_item_rules(self, rows: DataFrame) -> DataFrame:
        """Add the atoms and the quota group of the rules to item rows."""
        values = self._item_values(self.frames.items)
        atoms = self.item_atoms()
        return with_quota_group(rows, values, self.book).join(atoms, on="item_id", how="left")

    def item_atoms(self, items: DataFrame | None = None, day: date | None = None) -> DataFrame:
        """``item_id, rule_atoms``, by default of the run's items and day."""
        values = item_values(items, self.book, day or self.day) if items is not None else None
        return with_item_atoms(self._item_values(self.frames.items) if values is None else values, self.book)

    def user_atoms(self, ids: DataFrame, frames: RuleFrames | None = None, day: date | None = None) -> DataFrame:
        """``user_id, rule_atoms`` of the users in ``ids``, by default as of the run's tables and day. Conditions on
        pairs compare them with the values of the run's items in any case."""
        frames = self.frames if frames is None else frames
        values = user_values(ids, frames.users, frames.events, self.book, day or self.day)
        return with_user_atoms(values, self.book, self._compared[0])

    @cached_property
    def conflicts(self) -> list[Conflict]:
        """Rules that may contradict each other, decided by priority."""
        return conflicts(self.book, self.table, self._atoms_of(pin.item_id for pin in self.table.pins))

    def _item_values(self, items: DataFrame) -> DataFrame:
        return item_values(items, self.book, self.day)

    @cached_property
    def _compared(self) -> tuple[DataFrame | None, list[list[int]]]:
        """The row of ``pair_values`` and its atoms. The values are few: those that rules compare."""
        if not self.book.pair_conditions:
            return None, []
        frame = pair_values(self._item_values(self.frames.items), self.book, MOST_VALUES)
        row = frame.collect()[0]
        atoms = [[value[ATOM] for value in values] for values in row]
        for number, values in enumerate(atoms):
            if len(values) > MOST_VALUES:
                rule = next(
                    rule for rule in self.book.rules if rule.pair_condition == self.book.pair_conditions[number]
                )
                raise UsageError(
                    f"rules file {self.book.file}, rule '{rule.id}', pairs: {rule.pairs} compares every user with more "
                    f"than {MOST_VALUES:,} different values of items: compare with fewer columns or coarser values"
                )
        return self._run.spark.createDataFrame([row], frame.schema), atoms

    def _pinned_items(self) -> dict[int, str]:
        """The item of each pin, by number of the rule."""
        pins = self.book.of("pin")
        if not pins:
            return {}
        columns: list[Column] = []
        for _, rule in pins:
            holds = F.expr(rule.items or "")
            columns += [F.count_if(holds), F.min(F.when(holds, F.col("item_id")))]
        row = self._item_values(self.frames.items).agg(*columns).collect()[0]
        for place, (_, rule) in enumerate(pins):
            if row[2 * place] != 1:
                raise UsageError(
                    f"rules file {self.book.file}, rule '{rule.id}', items: {rule.items} holds for {row[2 * place]:,} "
                    "items, but a place holds one: name the item, as item_id = '…'"
                )
        return {number: row[2 * place + 1] for place, (number, _) in enumerate(pins)}

    def _check_not_all_banned(self) -> None:
        """Raises UsageError if rules for everybody leave no item that is available."""
        banning = [rule for _, rule in self.book.of("ban") if rule.items and not rule.users and not rule.pairs]
        if not banning:
            return
        available = self.frames.items.where(is_available(self.day))
        values = self._item_values(available)
        banned = true_ones([F.when(F.expr(rule.items or ""), F.lit(1).cast("bigint")) for rule in banning])
        items, kept = values.agg(F.count("*"), F.count_if(F.size(banned) == 0)).collect()[0]
        if items and not kept:
            counts = values.agg(*(F.count_if(F.expr(rule.items or "")) for rule in banning)).collect()[0]
            alone = [rule.id for rule, count in zip(banning, counts, strict=True) if count == items]
            names = f"rule '{alone[0]}' bans" if alone else f"{len(banning)} rules together ban"
            raise UsageError(f"rules file {self.book.file}: {names} all {items:,} items for every user")

    def _check_conflicts(self, table: RuleTable) -> None:
        """Raises UsageError if rules of one priority contradict each other for a user that there is."""
        contradictions = conflicts(self.book, table, self._atoms_of(pin.item_id for pin in table.pins))
        for one in (one for one in contradictions if one.winner is None):
            user = self._user_with(table, one)
            if user is not None:
                raise UsageError(
                    f"rules file {self.book.file}: {one.describe(self.book)} for user '{user}', and both have priority "
                    f"{self.book.rules[one.first].priority}: give one of them a higher priority"
                )

    def _atoms_of(self, ids: Iterator[str]) -> dict[str, set[int]]:
        """Atoms of the few pinned items."""
        names = sorted(set(ids))
        if not names:
            return {}
        rows = self.item_atoms(self.frames.items.where(F.col("item_id").isin(names))).collect()
        return {row["item_id"]: {int(ALL), *row[ATOMS]} for row in rows}

    def _user_with(self, table: RuleTable, conflict: Conflict) -> str | None:
        """A user that both rules hold for."""
        if self.frames.users is None:
            return "*"
        atoms = self.user_atoms(self.frames.users)
        for side in conflict.users:
            wanted = [int(table.user_atoms[index]) for index in side]
            if int(ALL) not in wanted:
                atoms = atoms.where(F.arrays_overlap(ATOMS, F.array(*map(F.lit, wanted)).cast("array<bigint>")))
        row = atoms.first()
        return None if row is None else str(row["user_id"])

    def figures(self) -> dict[str, Any]:
        """For the report: the number of rules, and conflicts that priority decided."""
        decided = [one.describe(self.book) for one in self.conflicts if one.winner is not None]
        overruled = [f"{rule.id} of lower priority than {self.book.diversify.id}" for _, rule in
                     self.book.of("diversify")[1:] if self.book.diversify]  # fmt: skip
        return {"rules": {"active": len(self.book.rules), "decided_by_priority": (decided + overruled)[:20]}}
