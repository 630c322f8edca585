"""Conditions on tables: what is refused before anything is joined, and nights with rules."""

from datetime import timedelta

import pytest

from recsys_spark.errors import InputError, QualityError, UsageError
from recsys_spark.refresh.steps.refresh_lake import RefreshOptions, refresh_lake
from recsys_spark.rules.rule_file import parse_rules
from recsys_spark.rules.steps.read_rules import check_conditions
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.schemas import ITEMS, USERS
from tests.bench.small_lake import DAY, Bench
from tests.recommend.test_incremental import CHANGED, crowd

HEAD = '[items]\nsize = "int"\n[users]\nage = "int"\n[histories]\nhad = "event_type = \'view\'"\n'

ATTRIBUTES = ('{"size": 1}', '{"size": 2}', '{"size": "big"}')


def rules(*bodies, head=HEAD):
    return head + "".join(
        f'[[rules]]\nid = "r{number}"\nreason = "why"\n{body}\n' for number, body in enumerate(bodies)
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('action = "ban"\nitems = "price >"', "rule 'r1', items: "),
        ('action = "ban"\nitems = "colour = 1"', "rule 'r1', items: "),
        ('action = "ban"\nusers = "size = 1"', "rule 'r1', users: "),
        ('action = "ban"\nitems = "size + 1"', "rule 'r1', items: size + 1 is int, but must be true or false"),
        ('action = "ban"\nitems = "rand() > 0.5"', "rule 'r1', items: rand() > 0.5 gives another answer every time"),
        ('action = "ban"\nitems = "available_from > current_date()"', "rule 'r1', items: current_date reads the clock"),
        ('action = "ban"\nitems = "price > avg(price)"', "rule 'r1', items: "),
        ('action = "ban"\npairs = "user.age < size"', "rule 'r1', pairs: "),
        ('action = "ban"\npairs = "user.age < 3"', "rule 'r1', pairs: user.age < 3 names no column of item"),
        ('action = "diversify"\nmost = 1\nby = "colour"', "rule 'r1', by: "),
    ],
)
def test_a_condition_is_checked_before_the_start(spark, tmp_path, body, message):
    book = parse_rules(rules('action = "ban"\nitems = "size = 1"', body), "f.toml")
    with pytest.raises(UsageError) as raised:
        check_conditions(Bench(spark, tmp_path).run, book, DAY)
    assert str(raised.value).startswith(f"rules file f.toml, {message}")
    assert "\n" not in str(raised.value)


@pytest.fixture(scope="module")
def bench(spark, tmp_path_factory):
    """Three items and two users with attributes."""
    lake = Bench(spark, tmp_path_factory.mktemp("rules"))
    lake.put_vectors()
    lake.put_profiles()
    lake.put_events(("u1", "a1", "view"))
    lake.put(ITEMS, *((f"a{n + 1}", *[None] * 11, one) for n, one in enumerate(ATTRIBUTES)))
    lake.put(USERS, ("u1", None, None, None, None, '{"age": 30}'), ("u2", None, None, None, None, None))
    return lake


def written(tmp_path, *bodies):
    path = tmp_path / "rules.toml"
    path.write_text(rules(*bodies), encoding="utf-8")
    return str(path)


def test_rules_remove_raise_and_place(bench, tmp_path):
    file = written(
        tmp_path,
        'action = "ban"\nitems = "size = 2"\nusers = "age > 20"',
        'action = "boost"\nboost = 3.0\nitems = "item_id = \'a3\'"',
        'action = "pin"\nplace = 2\nitems = "item_id = \'a2\'"\nusers = "age IS NULL"',
    )
    report, lists = bench.lists(k=3, rules_file=file)
    assert lists == [("u1", "a3", 1), ("u2", "a3", 1), ("u2", "a2", 2), ("u2", "a1", 3)]
    assert report["rules"] == {"active": 3, "decided_by_priority": []}
    assert report["tables"]["rule_audit"] == 2
    again, _ = bench.lists(k=3, rules_file=file)
    assert again["status"] == "unchanged"
    changed, lists = bench.lists(k=3, rules_file=written(tmp_path, 'action = "ban"\nitems = "size = 1"'))
    assert changed["lists_made"].startswith("all: ")
    assert {item for _, item, _ in lists} == {"a2", "a3"}


@pytest.mark.parametrize(
    ("bodies", "message"),
    [
        (['action = "ban"\nitems = "size = 1 OR size IS NULL"', 'action = "ban"\nitems = "size = 2"'],
         "2 rules together ban all 3 items for every user"),
        (['action = "ban"\nitems = "item_id > \'\'"', 'action = "ban"\nitems = "size = 2"'],
         "rule 'r0' bans all 3 items for every user"),
        (['action = "pin"\nplace = 1\nitems = "size = 7"'], "rule 'r0', items: size = 7 holds for 0 items"),
        (['action = "pin"\nplace = 1\nitems = "size > 0"'], "rule 'r0', items: size > 0 holds for 2 items"),
        (['action = "pin"\nplace = 4\nitems = "size = 1"'], "rule 'r0': place 4 is not within lists of k=3 items"),
        (['action = "pin"\nplace = 1\nitems = "size = 1"', 'action = "ban"\nusers = "age > 20"\nitems = "size = 1"'],
         "rule 'r0' pins a1 to place 1, rule 'r1' removes it for user 'u1', and both have priority 0"),
        (['action = "pin"\nplace = 1\nitems = "size = 1"', 'action = "pin"\nplace = 1\nitems = "size = 2"'],
         "rule 'r1' pins a2 to place 1, rule 'r0' pins a1 to it"),
    ],
)  # fmt: skip
def test_a_contradiction_is_named_before_anything_is_joined(bench, tmp_path, bodies, message):
    with pytest.raises(UsageError) as raised:
        bench.lists(k=3, rules_file=written(tmp_path, *bodies))
    assert str(raised.value).startswith("rules file ")
    assert message in str(raised.value)


def test_rules_of_one_priority_may_be_about_different_users(bench, tmp_path):
    bodies = [
        'action = "pin"\nplace = 1\nusers = "age > 20"\nitems = "size = 2"',
        'action = "ban"\nusers = "age IS NULL"\nitems = "size = 2"',
    ]
    _, lists = bench.lists(k=3, rules_file=written(tmp_path, *bodies))
    assert ("u1", "a2", 1) in lists
    assert not [row for row in lists if row[:2] == ("u2", "a2")]
    bodies[1] = 'action = "ban"\nitems = "size = 2"\npriority = 1'
    report, lists = bench.lists(k=3, rules_file=written(tmp_path, *bodies))
    assert "a2" not in {item for _, item, _ in lists}
    [decided] = report["rules"]["decided_by_priority"]
    assert decided == "rule 'r0' pins a2 to place 1, rule 'r1' removes it: 'r1' has the higher priority"


def test_rules_that_leave_nothing_publish_nothing(bench, tmp_path):
    version = bench.lake.version(ITEMS)
    body = 'action = "require"\npairs = "item.size > user.age + 100"'
    with pytest.raises(QualityError, match="leave none of 3 candidates for any of 2 users"):
        bench.lists(k=3, rules_file=written(tmp_path, body))
    with pytest.raises(InputError, match="rules file nothing.toml: No such file"):
        bench.lists(k=3, rules_file="nothing.toml")
    assert bench.lake.version(ITEMS) == version


NIGHTLY = rules(
    "action = \"ban\"\nitems = \"item_id IN ('i3', 'i4')\"\nusers = \"locale = 'de'\"",
    'action = "require"\npairs = "item.locale = user.locale OR user.locale IS NULL"',
    "action = \"ban\"\npairs = \"array_contains(user.had, 'i1') AND item.item_id = 'i5'\"",
    'action = "boost"\nboost = 0.5\nitems = "available_from < run_date"',
)


def test_an_incremental_night_with_rules_equals_a_full_one(spark, tmp_path):
    (tmp_path / "rules.toml").write_text(NIGHTLY, encoding="utf-8")
    world = crowd(spark, tmp_path / "lake")
    world.options["rules_file"] = str(tmp_path / "rules.toml")
    world.commit_sources()
    world.refresh()
    for change in CHANGED:
        world.apply(change)
    world.run_date += timedelta(days=1)
    world.commit_sources()
    _, listed = world.check()
    assert 0 < listed["users_redone"] < 60 / 2, "not all, which would make this night a full one"


@pytest.mark.slow
def test_many_nights_with_rules_equal_full_ones(spark, tmp_path_factory):
    from tests.recommend.test_incremental import nights

    file = tmp_path_factory.mktemp("rules") / "rules.toml"
    file.write_text(NIGHTLY, encoding="utf-8")
    nights(spark, tmp_path_factory, examples=4, steps=5, rules_file=str(file))


def test_a_refresh_checks_the_rules_before_anything_else(spark, tmp_path):
    lake = Bench(spark, tmp_path).lake
    options = RefreshOptions(
        lake=lake.uri, dataset="none.toml", data="/none", run_date=DAY,
        rules_file=written(tmp_path, 'action = "ban"\nitems = "colour = 1"'),
    )  # fmt: skip
    with pytest.raises(UsageError, match="rule 'r0', items: "):
        refresh_lake(Run("refresh_lake", lake, Progress()), options)
