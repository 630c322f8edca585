"""Ignored impressions count a little against similar items, and do nothing else."""

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
from tests.bench.changing_lake import World

DAY = date(2024, 3, 10)
SHOWN = [
    ("came", "passed over", 0),
    ("came", "touched", 0),
    ("came", "touched after the run date", 0),
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
    ("came", "touched after the run date", 8),
    ("came after the window", "elsewhere", 4),
    ("stayed away", "elsewhere", -20),
]


def day(n):
    return DAY + timedelta(days=n)


def moment(n):
    return datetime(2024, 3, 10, 12, tzinfo=UTC) + timedelta(days=n)


def test_an_impression_is_ignored_by_an_active_user_without_an_event_of_the_item(spark):
    shown = spark.createDataFrame([(user, item, day(n)) for user, item, n in SHOWN], IMPRESSIONS.ddl)
    events = spark.createDataFrame([(user, item, "view", moment(n), None) for user, item, n in CAME], EVENTS.ddl)
    settings = Ignored(-0.5, days=4, lists=2)
    ignored = ignored_pairs(shown, events, day(7), settings)
    expected = {("came", item, day(0)) for item in ("passed over", "touched after the run date", "twice")}
    assert {tuple(row) for row in ignored.collect()} == expected
    assert ignored_pairs(shown, events, day(2), settings).where("shown_at = date'2024-03-10'").isEmpty()
    nobody = spark.createDataFrame([("nobody",)], "user_id string")
    assert ignored_pairs(shown, events, day(7), settings, nobody).isEmpty()
    row = weighed_ignored(ignored, events, day(7), -0.5, half_life=1.0).first()
    assert row["weight"] == pytest.approx(
        -0.5 * 2**-6.5
    )  # as an event of that midnight, 6.5 days before the newest one
    assert (row["events"], row["last_timestamp"].date()) == (0, day(0))


@pytest.fixture(scope="module")
def world(spark, tmp_path_factory):
    """Two nights: on the second, three users have an event with one item each."""
    world = World(spark, tmp_path_factory.mktemp("world"), ignored_weight=-0.3, ignored_days=1, ignored_lists=2)
    world.commit_sources()
    world.refresh()
    for user in range(1, 4):
        world.apply(("event", user, (user * 5 + 1) % 14, 0))
    world.run_date += timedelta(days=1)
    world.commit_sources()
    return world


def rows_of(world, table):
    return [row.asDict() for row in world.lake.read(world.spark, table).collect()]


def test_ignored_items_move_a_profile_and_are_not_banned(world):
    first = {(row["user_id"], row["item_id"]) for row in rows_of(world, RECOMMENDATIONS)}
    touched = {(f"u{user}", f"i{item}") for user, item, _ in world.events}
    assert {(r["user_id"], r["item_id"]) for r in rows_of(world, IMPRESSIONS)} == first
    profiles, listed = world.check()  # the incremental run equals a full one
    assert profiles["profiles_made"] == "3 users who changed"
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


@pytest.mark.slow
def test_reasons_name_ignored_items_and_add_up(world):
    world.refresh(explain=50)
    reasons = [reason for row in rows_of(world, RECOMMENDATIONS) for reason in row["reasons"]]
    for row in rows_of(world, RECOMMENDATIONS):
        assert math.fsum(r["contribution"] for r in row["reasons"]) == pytest.approx(row["score"], abs=1e-5)
    assert any("passed over" in reason["sentence"] for reason in reasons)


@pytest.mark.slow
def test_impressions_are_stored_once_and_without_forgotten_users(world):
    world.refresh(full=True)
    world.refresh()
    rows = rows_of(world, IMPRESSIONS)
    assert set(Counter(tuple(row.values()) for row in rows).values()) == {1}
    assert {row["shown_at"] for row in rows} == {date(2024, 3, 1), date(2024, 3, 2)}
    forget_users(Run("forget_users", world.lake, Progress()), ForgetOptions(lake=world.lake.uri, user_ids="u1"))
    world.refresh()
    assert {row["user_id"] for row in rows_of(world, IMPRESSIONS)} == {f"u{n}" for n in range(9) if n != 1}
