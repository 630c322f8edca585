"""What was listed and passed over counts a little against its like, and no more than that."""

import math
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest

from recsys_spark.privacy.options import ForgetOptions
from recsys_spark.privacy.steps.forget_users import forget_users
from recsys_spark.profiles.ignored_impressions import Ignored, ignored_pairs, weighed_ignored
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.schemas import EVENTS, IMPRESSIONS, RECOMMENDATIONS, USER_PROFILES
from tests.recommend.test_incremental import World

DAY = date(2024, 3, 10)
SHOWN = [
    ("came", "passed over", 0),
    ("came", "touched", 0),
    ("came", "touched too late to be known", 0),
    ("came", "twice", -1),
    ("came", "twice", 0),
    ("came", "an old list", -9),
    ("came", "young list", 5),
    ("stayed away", "passed over", 0),
    ("came after the window", "passed over", 0),
]
CAME = [
    ("came", "elsewhere", 2),
    ("came", "elsewhere", -8),
    ("came", "touched", 6),
    ("came", "touched too late to be known", 8),
    ("came after the window", "elsewhere", 4),
    ("stayed away", "elsewhere", -20),
]


def day(n):
    return DAY + timedelta(days=n)


def moment(n):
    return datetime(2024, 3, 10, 12, tzinfo=UTC) + timedelta(days=n)


def test_what_is_passed_over_was_listed_to_one_who_came_and_did_not_touch_it(spark):
    shown = spark.createDataFrame([(user, item, day(n)) for user, item, n in SHOWN], IMPRESSIONS.ddl)
    events = spark.createDataFrame([(user, item, "view", moment(n), None) for user, item, n in CAME], EVENTS.ddl)
    what = Ignored(-0.5, days=4, lists=2)
    found = ignored_pairs(shown, events, day(7), what)
    expected = {("came", item, day(0)) for item in ("passed over", "touched too late to be known", "twice")}
    assert {tuple(row) for row in found.collect()} == expected
    assert ignored_pairs(shown, events, day(2), what).where("shown_at = date'2024-03-10'").isEmpty()
    nobody = spark.createDataFrame([("nobody",)], "user_id string")
    assert ignored_pairs(shown, events, day(7), what, nobody).isEmpty()
    row = weighed_ignored(found, events, day(7), -0.5, half_life=1.0).first()
    assert row["weight"] == pytest.approx(
        -0.5 * 2**-6.5
    )  # as an event of that midnight, 6.5 days before the newest one
    assert (row["events"], row["last_timestamp"].date()) == (0, day(0))


@pytest.fixture(scope="module")
def world(spark, tmp_path_factory):
    """Two nights: on the second, three users have come and looked at an item each."""
    made = World(spark, tmp_path_factory.mktemp("world"), ignored_weight=-0.3, ignored_days=1, ignored_lists=2)
    made.commit_sources()
    made.refresh()
    for user in range(1, 4):
        made.apply(("event", user, (user * 5 + 1) % 14, 0))
    made.run_date += timedelta(days=1)
    made.commit_sources()
    return made


def rows_of(world, table):
    return [row.asDict() for row in world.lake.read(world.spark, table).collect()]


def test_ignored_items_move_a_profile_and_are_not_banned(world):
    first = {(row["user_id"], row["item_id"]) for row in rows_of(world, RECOMMENDATIONS)}
    touched = {(f"u{user}", f"i{item}") for user, item, _ in world.events}
    assert {(r["user_id"], r["item_id"]) for r in rows_of(world, IMPRESSIONS)} == first
    made, listed = world.check()  # what has changed equals all
    assert made["profiles_made"] == "3 users who changed"
    assert listed["users_redone"] == 3
    again = {(row["user_id"], row["item_id"]) for row in rows_of(world, RECOMMENDATIONS)}
    assert again & (first - touched), "an ignored item can be listed again"
    assert not again & touched
    with_them = {row["user_id"]: row["embedding"] for row in rows_of(world, USER_PROFILES)}
    world.refresh(ignored_weight=0.0)
    without = {row["user_id"]: row["embedding"] for row in rows_of(world, USER_PROFILES)}
    assert {user for user, vector in without.items() if vector != with_them[user]} == {"u1", "u2", "u3"}
    counts = {row["user_id"]: row["events"] for row in rows_of(world, USER_PROFILES)}
    assert counts["u1"] == sum(user == 1 for user, *_ in world.events)


def test_reasons_tell_what_was_passed_over_and_add_up(world):
    world.refresh(explain=50)
    told = [reason for row in rows_of(world, RECOMMENDATIONS) for reason in row["reasons"]]
    for row in rows_of(world, RECOMMENDATIONS):
        assert math.fsum(r["contribution"] for r in row["reasons"]) == pytest.approx(row["score"], abs=1e-5)
    assert any("passed over" in reason["sentence"] for reason in told)


def test_what_was_shown_is_kept_once_and_nobody_forgotten_is_in_it(world):
    world.refresh(full=True)
    world.refresh()
    rows = rows_of(world, IMPRESSIONS)
    assert set(Counter(tuple(row.values()) for row in rows).values()) == {1}
    assert {row["shown_at"] for row in rows} == {date(2024, 3, 1), date(2024, 3, 2)}
    forget_users(Run("forget_users", world.lake, Progress()), ForgetOptions(lake=world.lake.uri, user_ids="u1"))
    world.refresh()
    assert {row["user_id"] for row in rows_of(world, IMPRESSIONS)} == {f"u{n}" for n in range(9) if n != 1}
