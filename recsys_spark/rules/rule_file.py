"""The content of a rules file: conditions in Spark SQL with an action each, their priority and days."""

import hashlib
import json
import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from recsys_spark.errors import UsageError

REMOVING = ("ban", "require")

_NEEDED = {
    "ban": (),
    "require": ("pairs",),
    "boost": ("boost",),
    "pin": ("place", "items"),
    "diversify": ("most", "by"),
}

_OWN = {"boost": "boost", "place": "pin", "most": "diversify", "by": "diversify"}
"""Keys that belong to one action."""

_LITERAL = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Rule(_Strict):
    """A rule: for the items, the users and the pairs of both that its conditions hold for. No condition holds for all.

    ``require`` removes the pairs for which ``pairs`` is not true.
    """

    id: str = Field(min_length=1)
    reason: str = Field(min_length=1)
    action: Literal["ban", "require", "boost", "pin", "diversify"]
    items: str | None = None
    users: str | None = None
    pairs: str | None = None
    priority: int = 0
    from_: date | None = Field(None, alias="from")
    until: date | None = None
    boost: float | None = None
    place: int | None = Field(None, ge=1)
    most: int | None = Field(None, ge=1)
    by: str | None = None

    @model_validator(mode="after")
    def _action_has_its_keys(self) -> "Rule":
        """Refuse rules without the keys of their action, or with those of another one.

        Raises:
            ValueError: it names the keys.
        """
        missing = [name for name in _NEEDED[self.action] if getattr(self, name) is None]
        idle = [name for name, action in _OWN.items() if action != self.action and getattr(self, name) is not None]
        if self.action == "pin" and self.pairs:
            idle.append("pairs")
        if self.action == "diversify":
            idle += [name for name in ("users", "pairs") if getattr(self, name)]
        if missing or idle:
            parts = [f"needs {', '.join(missing)}"] * bool(missing) + [f"has no use for {', '.join(idle)}"] * bool(idle)
            raise ValueError(f"action '{self.action}' {' and '.join(parts)}")
        if self.action == "ban" and not (self.items or self.users or self.pairs):
            raise ValueError("it bans everything: give it a condition (items, users or pairs)")
        if self.from_ and self.until and self.until < self.from_:
            raise ValueError(f"until {self.until} is before from {self.from_}")
        return self

    def holds_on(self, day: date) -> bool:
        """Whether a day is within the rule's days, both inclusive."""
        return (self.from_ is None or self.from_ <= day) and (self.until is None or day <= self.until)

    @property
    def pair_condition(self) -> tuple[str | None, str | None, str, bool] | None:
        """(items, users, pairs, negated) of a rule that compares users with items; None for others."""
        return (self.items, self.users, self.pairs, self.action == "require") if self.pairs else None

    @property
    def texts(self) -> dict[str, str]:
        """The conditions, by key."""
        return {name: text for name in ("items", "users", "pairs", "by") if (text := getattr(self, name))}


class _Content(_Strict):
    items: dict[str, str] = {}
    users: dict[str, str] = {}
    histories: dict[str, str] = {}
    rules: list[Rule] = Field(min_length=1)


@dataclass(frozen=True)
class RuleBook:
    """The rules of a file, those of higher priority first, then in the order of the file.

    Args:
        file: its name.
        items, users: types of the attributes that conditions name, by name.
        histories: by name, the condition on the events whose items a user's column of this name holds.
        rules: the rules.
    """

    file: str
    items: dict[str, str]
    users: dict[str, str]
    histories: dict[str, str]
    rules: tuple[Rule, ...]

    def active(self, day: date) -> "RuleBook":
        """The rules of a day."""
        return replace(self, rules=tuple(rule for rule in self.rules if rule.holds_on(day)))

    @cached_property
    def digest(self) -> str:
        """Identifies all that lists and their audit depend on."""
        kept = [rule.model_dump(mode="json", exclude={"from_", "until"}) for rule in self.rules]
        content = [self.items, self.users, self.histories, kept]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]

    @cached_property
    def item_conditions(self) -> list[str]:
        """The distinct conditions on items of rules that compare no pairs. An index is the atom of an item."""
        return list(dict.fromkeys(rule.items for rule in self.linked if rule.items))

    @cached_property
    def user_conditions(self) -> list[str]:
        """The distinct conditions on users of rules that compare no pairs. An index is the atom of a user."""
        return list(dict.fromkeys(rule.users for rule in self.linked if rule.users))

    @cached_property
    def pair_conditions(self) -> list[tuple[str | None, str | None, str, bool]]:
        """The distinct ``Rule.pair_condition``."""
        return list(dict.fromkeys(one for rule in self.rules if (one := rule.pair_condition)))

    @property
    def linked(self) -> list[Rule]:
        """The rules that compare no pairs, without ``diversify``."""
        return [rule for rule in self.rules if not rule.pairs and rule.action != "diversify"]

    def of(self, *actions: str) -> list[tuple[int, Rule]]:
        """(number, rule) of the rules with these actions."""
        return [(number, rule) for number, rule in enumerate(self.rules) if rule.action in actions]

    @property
    def diversify(self) -> Rule | None:
        """The rule that sets the quota: that of the highest priority."""
        return next((rule for _, rule in self.of("diversify")), None)

    @property
    def names_run_date(self) -> bool:
        """Whether a condition depends on the day of the run."""
        texts = [text for rule in self.rules for text in rule.texts.values()] + [*self.histories.values()]
        return any(re.search(r"\brun_date\b", _LITERAL.sub("", text)) for text in texts)


def parse_rules(text: str, file: str) -> RuleBook:
    """The rules of the text of a file.

    Raises:
        UsageError: it is not TOML, or has faults; all are listed.
    """
    try:
        content = _Content.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"rules file {file} is not TOML: {error}") from error
    except ValidationError as error:
        faults = [_fault(fault, tomllib.loads(text)) for fault in error.errors()]
        raise UsageError(_listed(file, faults)) from error
    times = Counter(rule.id for rule in content.rules)
    if twice := {name: number for name, number in times.items() if number > 1}:
        raise UsageError(_listed(file, [f"rule '{n}': the id is given {number} times" for n, number in twice.items()]))
    _check_diversify(file, content.rules)
    ordered = sorted(content.rules, key=lambda rule: -rule.priority)  # stable: equal ones in the order of the file
    return RuleBook(file, content.items, content.users, content.histories, tuple(ordered))


def item_columns_of(pairs: str) -> list[str]:
    """The columns of ``item`` that a condition on pairs names, sorted."""
    return sorted(set(re.findall(r"\bitem\.`?(\w+)", _LITERAL.sub("", pairs))))


def _listed(file: str, faults: Sequence[str]) -> str:
    return f"rules file {file} has {len(faults)} fault(s)\n" + "\n".join(f"  - {fault}" for fault in faults)


def _fault(fault: object, raw: dict[str, object]) -> str:
    """A fault of pydantic with the id of its rule."""
    assert isinstance(fault, dict)
    place, message = list(fault["loc"]), fault["msg"].removeprefix("Value error, ")
    rules = raw.get("rules")
    if place[:1] == ["rules"] and len(place) > 1 and isinstance(rules, list) and isinstance(rules[place[1]], dict):
        name = rules[place[1]].get("id", f"number {place[1] + 1}")
        key = ".".join(map(str, place[2:]))
        return f"rule '{name}'" + (f", {key}: {message}" if key else f": {message}")
    return f"{'.'.join(map(str, place))}: {message}"


def _check_diversify(file: str, rules: Sequence[Rule]) -> None:
    several = sorted((rule for rule in rules if rule.action == "diversify"), key=lambda rule: -rule.priority)
    for one, other in zip(several, several[1:], strict=False):
        overlap = (one.until is None or other.from_ is None or other.from_ <= one.until) and (
            other.until is None or one.from_ is None or one.from_ <= other.until
        )
        if one.priority == other.priority and overlap:
            raise UsageError(
                f"rules file {file}: rules '{one.id}' and '{other.id}' both diversify with priority {one.priority}, "
                "and a list has one quota: give one of them a higher priority, or other days"
            )
