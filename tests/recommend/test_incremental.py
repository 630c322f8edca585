"""An incremental refresh equals a full one after any sequence of nights, to the last bit of a score."""

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from pyspark.sql import functions as F

from recsys_spark.errors import ConflictError, QualityError
from recsys_spark.lake.lake import Lake
from recsys_spark.publish.changes import changed_keys, row_kinds
from recsys_spark.publish.steps.change_log import counts_by_kind
from recsys_spark.recommend.steps import incremental as incremental_step
from recsys_spark.tables.schemas import (
    CHANGES,
    IMPRESSIONS,
    RECOMMENDATIONS,
    USER_PROFILES,
)
from tests.bench.changing_lake import FIRST, ITEMS_AT_FIRST, USERS_AT_FIRST, World

_IDS = {"user": st.integers(0, USERS_AT_FIRST + 2), "item": st.integers(0, ITEMS_AT_FIRST + 3)}


CRASHES = [f"{point}:{table}" for point in ("stage.after", "commit.before", "commit.after")
           for table in ("user_profiles", "changes", "recommendations")]  # fmt: skip


_VECTOR = st.tuples(*[st.integers(-3, 3)] * 4).filter(any)


_DAYS = st.none() | st.integers(-2, 4)


OF_A_NIGHT = st.one_of(
    st.tuples(st.just("event"), _IDS["user"], _IDS["item"], st.integers(-40, 5)),
    st.tuples(st.just("no event"), _IDS["user"]),
    st.tuples(st.just("item"), _IDS["item"], _VECTOR),
    st.tuples(st.just("no item"), _IDS["item"]),
    st.tuples(st.just("about"), _IDS["item"], st.sampled_from([None, 0.25, -0.5]), _DAYS, _DAYS),
    st.tuples(st.just("rule"), _IDS["user"], _IDS["item"], st.sampled_from(["allow", "deny", None])),
    st.tuples(st.just("locale"), _IDS["user"], st.sampled_from(["de", "fr", None])),
    st.tuples(st.just("text"), _IDS["user"], st.none() | _VECTOR),
)


class Nights(RuleBasedStateMachine):
    """Any changes, night after night."""

    world: World

    @initialize()
    def first_night(self):
        self.world = self.new_world()
        self.world.commit_sources()
        self.world.refresh()

    @rule(
        changes=st.lists(OF_A_NIGHT, max_size=5),
        days=st.integers(-1, 3),
        upkeep=st.none() | st.just("vacuum") | _IDS["user"],
        crash=st.none() | st.sampled_from(CRASHES),
    )
    def next_night(self, changes, days, upkeep, crash):
        if upkeep == "vacuum":
            self.world.vacuum()
        elif upkeep is not None:
            self.world.forget(upkeep)
        for change in changes:
            self.world.apply(change)
        self.world.run_date += timedelta(days=days)
        self.world.commit_sources()
        if crash:
            self.world.crash(crash)
        self.world.check()


def nights(spark, tmp_path_factory, examples, steps, **options):
    Nights.new_world = lambda _: World(spark, tmp_path_factory.mktemp("nights"), **options)
    run_state_machine_as_test(Nights, settings=settings(max_examples=examples, stateful_step_count=steps))


@pytest.mark.slow
def test_any_night_equals_a_full_one(spark, tmp_path_factory):
    nights(spark, tmp_path_factory, examples=2, steps=3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ignored_weight": -0.2, "ignored_days": 1},
        {"match_on": "locale"},
        {"min_score": 0.2},
        {"half_life_steps": 2.0, "max_events": 3},
    ],
)
def test_many_nights_equal_full_ones(spark, tmp_path_factory, options):
    nights(spark, tmp_path_factory, examples=6, steps=6, **options)


CHANGED = [
    ("event", 0, 6, -30),  # late
    ("no event", 1),
    ("event", 60, 2, -1),  # of a new user
    ("event", 3, 9, 3),  # in the future
    ("item", 80, (1, 2, 0, 1)),  # new
    ("item", 4, (0, 1, 2, 0)),
    ("no item", 7),
    ("about", 8, None, None, -1),  # withdrawn
    ("rule", 5, 2, "deny"),
    ("rule", 6, 3, "allow"),
    ("locale", 7, None),
    ("text", 8, (1, 0, 1, 0)),
]
"""A change of every kind."""


def crowd(spark, folder):
    """A world of 60 users and 80 items, in which a few changes leave most lists as they are."""
    world, random = World(spark, folder), np.random.default_rng(2)
    drawn = dict(enumerate(map(tuple, random.integers(-3, 4, (80, 4)).tolist())))
    world.vectors = {n: vector for n, vector in (drawn | world.vectors).items() if any(vector)}
    world.about = dict.fromkeys(world.vectors, (None, None, None))
    pairs = random.integers((USERS_AT_FIRST, 0), (60, 80), (250, 2)).tolist()
    world.events |= {(user, item, -1 - n % 30) for n, (user, item) in enumerate(pairs)}
    return world


def test_a_night_costs_what_has_changed(spark, tmp_path):
    world = crowd(spark, tmp_path)
    world.commit_sources()
    first = world.refresh()
    assert first[0]["profiles_made"] == first[1]["lists_made"] == "all: it is the first run"
    world.run_date += timedelta(days=1)  # and nothing else
    world.commit_sources()
    profile_files = world.lake.read(spark, USER_PROFILES).inputFiles()
    made, listed = world.refresh()
    assert made["profiles_made"] == "none"
    assert world.lake.read(spark, USER_PROFILES).inputFiles() == profile_files
    assert (listed["users_redone"], listed["items_changed"]) == (0, 0)
    world.apply(("event", 2, 3, -1))
    world.apply(("about", 5, 0.25, None, None))
    world.commit_sources()
    made, listed = world.refresh()
    assert made["profiles_made"] == "1 users who changed"
    assert listed["items_changed"] == 1
    assert 1 <= listed["users_redone"] < 60 / 4
    for change in CHANGED:
        world.apply(change)
    world.run_date += timedelta(days=1)
    world.commit_sources()
    made, listed = world.check()  # lists of two nights that were made from those before
    changed = {0, 1, 8, 60} | {user for user, item, _ in world.events if item in (4, 7)}
    assert made["profiles_made"] == f"{len(changed)} users who changed"
    assert listed["items_changed"] == 4
    assert len(changed) < listed["users_redone"] < 60 / 2, "not all, which would make this night a full one"
    assert world.lake.version(IMPRESSIONS) is None, "impressions are stored only with ignored_weight"


@pytest.mark.slow
def test_another_half_life_makes_everything_anew(spark, tmp_path):
    world = World(spark, tmp_path)
    world.commit_sources()
    world.refresh()
    longer = world.refresh(half_life_days=7)
    assert longer[0]["profiles_made"].startswith("all: weights was")
    assert longer[1]["lists_made"].startswith("all: ")


@pytest.mark.slow
def test_shuffled_joins_leave_lists_whole(spark, tmp_path):
    """As on large tables; and in a folder with a space in its name, whose files a night without changes reads."""
    spark.conf.set("spark.sql.autoBroadcastJoinThreshold", "-1")
    try:
        world = World(spark, tmp_path / "my lake")
        world.commit_sources()
        world.refresh()
        world.run_date += timedelta(days=1)  # and nothing else
        assert world.check()[1]["users_redone"] == 0
        world.apply(("event", 2, 3, -1))
        world.commit_sources()
        assert world.check()[1]["users_redone"] == 1
    finally:
        spark.conf.unset("spark.sql.autoBroadcastJoinThreshold")


@pytest.mark.slow
def test_lists_learn_from_the_commit_which_profiles_are_new(spark, tmp_path, monkeypatch):
    world = World(spark, tmp_path)
    world.commit_sources()
    world.refresh()
    compared = []

    def spy(was, now, key):
        compared.append(key)
        return changed_keys(was, now, key)

    monkeypatch.setattr(incremental_step, "changed_keys", spy)
    world.apply(("event", 2, 3, -1))
    world.apply(("no event", 4))
    world.commit_sources()
    assert world.check()[1]["users_redone"] == 2
    assert "user_id" not in compared, "no profile vectors are compared"
    for change in (("event", 2, 5, -1), ("event", 3, 5, -1)):  # profiles of two nights, lists of one
        world.apply(change)
        world.commit_sources()
        world.profiles()
    assert world.check()[1]["users_redone"] == 2
    assert "user_id" in compared


@pytest.mark.slow
def test_files_of_many_nights_stay_few(spark, tmp_path):
    world = World(spark, tmp_path)
    world.commit_sources()
    for night in range(6):
        world.apply(("event", night, 3, -1))
        world.commit_sources()
        world.refresh()
    number = [len(world.lake.file_uris(t, world.lake.last_commit(t).version)) for t in (USER_PROFILES, RECOMMENDATIONS)]
    assert max(number) <= 8, number


@pytest.mark.slow
def test_a_run_is_refused_if_another_one_has_replaced_the_version_it_started_from(spark, tmp_path, monkeypatch):
    world = World(spark, tmp_path)
    world.commit_sources()
    world.refresh()
    world.apply(("event", 2, 3, -1))
    world.commit_sources()
    stage = Lake.stage

    def overtaken(self, frame, table, *arguments, **options):
        staged = stage(self, frame, table, *arguments, **options)
        if table is USER_PROFILES:
            monkeypatch.setattr(Lake, "stage", stage)
            self.commit(stage(self, world.lake.read(spark, USER_PROFILES).limit(2), USER_PROFILES), "another run")
        return staged

    monkeypatch.setattr(Lake, "stage", overtaken)
    with pytest.raises(ConflictError, match="published by another run since this one started"):
        world.refresh()
    assert world.lake.rows(USER_PROFILES) == 2
    assert world.lake.rows(CHANGES) == 2, "the log has no row of a version that was never published"


@pytest.mark.slow
def test_a_run_killed_before_it_wrote_the_log_writes_it_when_repeated(spark, tmp_path, monkeypatch):
    world = World(spark, tmp_path)
    world.commit_sources()
    commit = Lake.commit

    def killed(self, staged, *arguments, **options):
        if staged.table is CHANGES:
            raise KeyboardInterrupt
        return commit(self, staged, *arguments, **options)

    monkeypatch.setattr(Lake, "commit", killed)
    with pytest.raises(KeyboardInterrupt):
        world.refresh()
    monkeypatch.undo()
    assert world.lake.rows(USER_PROFILES) == USERS_AT_FIRST
    world.refresh()
    world.refresh()
    rows = [
        tuple(row) for row in world.lake.read(spark, CHANGES).select("run_date", "table", "rows", "added").collect()
    ]
    assert sorted(rows)[1] == (FIRST, "user_profiles", 9, 9)
    assert len(rows) == 2


@pytest.mark.slow
def test_drift_beyond_the_bounds_publishes_nothing_until_it_is_accepted(spark, tmp_path):
    world = World(spark, tmp_path, drift_from_rows=1, max_row_change=0.3)
    world.commit_sources()
    world.refresh()
    world.run_date += timedelta(days=1)  # and nothing else: this night keeps the figures that the next is compared with
    assert world.refresh()[0]["profiles_made"] == "none"
    before = world.shown()
    world.events = {event for event in world.events if event[0] < 4}
    world.commit_sources()
    with pytest.raises(QualityError, match="table 'user_profiles' has drifted and nothing was published: rows went"):
        world.refresh()
    assert world.shown() == before
    made, _ = world.refresh(accept_drift=True)
    assert made["accepted_drift"][0].startswith("rows went from 9 to 4")
    assert world.lake.last_commit(USER_PROFILES).outcome.accepted_drift == made["accepted_drift"]
    rows = world.lake.read(spark, CHANGES).select("table", "added", "changed", "removed").collect()
    assert {("user_profiles", 9, 0, 0), ("user_profiles", 0, 0, 5), ("recommendations", 0, 0, 5)} <= set(
        map(tuple, rows)
    )


def test_whole_rows_are_compared_by_a_join_that_can_spill(spark):
    old = spark.range(1000).select("id", F.lit("x").alias("text"))
    new = spark.range(10, 1005).select("id", F.lit("x").alias("text"))
    kinds = row_kinds(old, new)
    plan = kinds._jdf.queryExecution().executedPlan().toString()
    assert "SortMergeJoin" in plan
    assert "ShuffledHashJoin" not in plan
    assert counts_by_kind(kinds) == {"added": 5, "changed": 0, "removed": 10}
