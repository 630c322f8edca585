"""Rules that contradict each other: a pinned item that another rule removes, two items for one place."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from recsys_spark.rules.rule_file import RuleBook
from recsys_spark.topk.kernels.rule_masks import Pin, RuleTable


@dataclass(frozen=True)
class Conflict:
    """Two rules, by number, that contradict each other for users that have an atom of each side.

    Args:
        first: a pin.
        second: the other rule.
        users: for each of the two, indices of user atoms.
        what: the contradiction in words, with places for the ids.
        winner: of higher priority; None if both have the same.
    """

    first: int
    second: int
    users: tuple[frozenset[int], frozenset[int]]
    what: str
    winner: int | None

    def describe(self, book: RuleBook) -> str:
        """The contradiction, with the ids of the rules."""
        text = self.what.format(book.rules[self.first].id, book.rules[self.second].id)
        return text if self.winner is None else f"{text}: '{book.rules[self.winner].id}' has the higher priority"


def conflicts(book: RuleBook, table: RuleTable, atoms: Mapping[str, set[int]]) -> list[Conflict]:
    """All contradictions between pins and other rules, whether or not a user has both.

    Args:
        book: the rules.
        table: as arrays.
        atoms: of the pinned items.
    """
    contradictions = []
    for number, pin in enumerate(table.pins):
        for other in table.pins[:number]:
            if (other.place == pin.place) != (other.item_id == pin.item_id):
                what = "rule '{0}' pins " + f"{pin.item_id} to place {pin.place}, rule '{{1}}' {_of_other(pin, other)}"
                users = frozenset([pin.user]), frozenset([other.user])
                contradictions.append(Conflict(pin.rule, other.rule, users, what, _winner(book, pin.rule, other.rule)))
        contradictions += _removing(book, table, pin, atoms.get(pin.item_id, set()))
    return contradictions


def _of_other(pin: Pin, other: Pin) -> str:
    return f"pins {other.item_id} to it" if other.place == pin.place else f"to place {other.place}"


def _removing(book: RuleBook, table: RuleTable, pin: Pin, atoms: set[int]) -> Iterator[Conflict]:
    """Rules that remove a pinned item."""
    links = table.removals
    by_rule: dict[int, set[int]] = {}
    for user, item, rule in zip(links.users.tolist(), links.items.tolist(), links.rules.tolist(), strict=True):
        if int(table.item_atoms[item]) in atoms:
            by_rule.setdefault(rule, set()).add(user)
    for rule, users in by_rule.items():
        what = "rule '{0}' pins " + f"{pin.item_id} to place {pin.place}, rule '{{1}}' removes it"
        sides = frozenset([pin.user]), frozenset(users)
        yield Conflict(pin.rule, rule, sides, what, _winner(book, pin.rule, rule))


def _winner(book: RuleBook, one: int, other: int) -> int | None:
    first, second = book.rules[one].priority, book.rules[other].priority
    return None if first == second else one if first > second else other
