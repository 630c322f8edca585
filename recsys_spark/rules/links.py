"""The rules of a file as arrays of linked atoms."""

from collections.abc import Mapping, Sequence

import numpy as np

from recsys_spark.rules.rule_file import REMOVING, Rule, RuleBook
from recsys_spark.topk.kernels.rule_masks import ALL, Links, Pin, RuleTable


def table_of(book: RuleBook, values: Sequence[Sequence[int]], pinned: Mapping[int, str]) -> RuleTable:
    """The rules as arrays.

    Args:
        book: the rules.
        values: for each condition on pairs, the atoms of the values that it reads of items.
        pinned: the item of each pin, by number of the rule.
    """
    of_pairs = [atom for atoms in values for atom in atoms]
    users = np.array(sorted({int(ALL), *range(len(book.user_conditions)), *of_pairs}), np.int64)
    items = np.array(sorted({int(ALL), *range(len(book.item_conditions)), *of_pairs}), np.int64)
    links = {number: _links(book, rule, values) for number, rule in enumerate(book.rules)}

    def linked(*actions: str) -> list[tuple[int, int, int]]:
        pairs = [(user, item, number) for number, _ in book.of(*actions) for user, item in links[number]]
        atoms = np.array(pairs, np.int64).reshape(-1, 3)
        columns = np.searchsorted(users, atoms[:, 0]), np.searchsorted(items, atoms[:, 1]), atoms[:, 2]
        return list(zip(*(column.tolist() for column in columns), strict=True))

    boosts = linked("boost")
    pins = [
        Pin(
            pinned[number], rule.place or 1, int(np.searchsorted(users, links[number][0][0])), number, _bars(book, rule)
        )
        for number, rule in book.of("pin")
    ]
    raises = np.array([book.rules[number].boost for _, _, number in boosts], np.float64)
    return RuleTable(users, items, Links.of(linked(*REMOVING)), Links.of(boosts), raises, tuple(pins))


def _links(book: RuleBook, rule: Rule, values: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """(user atom, item atom) of a rule."""
    if rule.action == "diversify":
        return []
    if (pairs := rule.pair_condition) is not None:
        return [(atom, atom) for atom in values[book.pair_conditions.index(pairs)]]
    user = int(ALL) if rule.users is None else book.user_conditions.index(rule.users)
    return [(user, int(ALL) if rule.items is None else book.item_conditions.index(rule.items))]


def _bars(book: RuleBook, pin: Rule) -> frozenset[int]:
    """Numbers of the rules that remove a pinned item: those of higher priority."""
    return frozenset(number for number, rule in book.of(*REMOVING) if rule.priority > pin.priority)
