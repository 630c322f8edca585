"""The content of a rules file, and the faults that are found without a table."""

import textwrap
from datetime import date

import pytest

from recsys_spark.errors import UsageError
from recsys_spark.rules.rule_file import item_columns_of, parse_rules

DAY = date(2024, 3, 1)


def rule(**keys):
    lines = {"id": "'r'", "reason": "'why'", "action": "'ban'", "items": "'price > 9'"} | keys
    return "[[rules]]\n" + "".join(f"{name} = {value}\n" for name, value in lines.items() if value is not None)


def test_only_rules_of_the_day_count_those_of_higher_priority_first():
    text = "".join(
        [
            rule(id="'late'", **{"from": "2024-03-02"}),
            rule(id="'low'"),
            rule(id="'high'", priority="5", until="2024-03-01"),
            rule(id="'over'", until="2024-02-29"),
            rule(id="'also low'"),
        ]
    )
    book = parse_rules(text, "f.toml")
    assert [one.id for one in book.active(DAY).rules] == ["high", "low", "also low"]
    assert [one.id for one in book.active(date(2024, 3, 2)).rules] == ["late", "low", "also low"]


def test_the_digest_knows_what_lists_depend_on_and_nothing_else():
    first = parse_rules(rule(), "f.toml").active(DAY)
    same = parse_rules("# a comment\n" + rule(until="2024-05-01") + rule(id="'b'", until="2020-01-01"), "g.toml")
    assert same.active(DAY).digest == first.digest
    others = [
        rule(items="'price > 8'"),
        rule(reason="'another'"),
        rule(priority="1"),
        '[items]\nsize = "int"\n' + rule(),
    ]
    assert len({first.digest, *(parse_rules(text, "f.toml").digest for text in others)}) == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[rules", "rules file f.toml is not TOML"),
        ("", "rules: Field required"),
        (rule(action="'prefer'"), "rule 'r', action: Input should be 'ban', 'require', 'boost', 'pin' or 'diversify'"),
        (rule(item="'price > 9'"), "rule 'r', item: Extra inputs are not permitted"),
        (rule(id=None, action="'prefer'"), "rule 'number 1', id: Field required"),
        (rule() + rule(), "rule 'r': the id is given 2 times"),
        (rule(items=None), "rule 'r': it bans everything: give it a condition"),
        (rule(action="'require'"), "rule 'r': action 'require' needs pairs"),
        (rule(action="'boost'"), "rule 'r': action 'boost' needs boost"),
        (rule(place="1"), "rule 'r': action 'ban' has no use for place"),
        (rule(action="'pin'", place="0"), "rule 'r', place: Input should be greater than or equal to 1"),
        (rule(action="'pin'", place="1", pairs="'item.price > 1'"), "action 'pin' has no use for pairs"),
        (rule(action="'diversify'", most="1", by="'brand'", users="'true'"), "has no use for users"),
        (rule(**{"from": "2024-03-02", "until": "2024-03-01"}), "until 2024-03-01 is before from 2024-03-02"),
        (
            "".join(rule(id=f"'{n}'", action="'diversify'", most="1", by="'brand'") for n in "ab"),
            "rules 'a' and 'b' both diversify with priority 0",
        ),
    ],
)
def test_a_fault_is_named_with_file_and_rule(text, message):
    with pytest.raises(UsageError) as raised:
        parse_rules(text, "f.toml")
    assert message in str(raised.value)
    assert str(raised.value).startswith("rules file f.toml")


def test_a_condition_on_pairs_reads_these_columns():
    text = "user.age < item.min_age AND item.`size` = 'item.no' AND exists(item.min_age2, x -> x.item > 1)"
    assert item_columns_of(text) == ["min_age", "min_age2", "size"]


def test_conditions_of_several_rules_are_evaluated_once():
    text = textwrap.dedent("".join(rule(id=f"'{n}'", users=f"'age < {n % 2}'") for n in range(6)))
    book = parse_rules(text, "f.toml")
    assert (len(book.item_conditions), len(book.user_conditions)) == (1, 2)
