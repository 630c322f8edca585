"""The profiles and lists of a stream are those of the batch jobs on the same events."""

import shutil
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.errors import StreamingQueryException
from pyspark.sql import functions as F

from recsys_spark.errors import ConflictError, InputError, QualityError, RetryError, UsageError
from recsys_spark.errors.failpoints import VARIABLE
from recsys_spark.lake.lake import Lake
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.stream.kernels.bad_share import BadShare
from recsys_spark.stream.steps import batches, recent_events, stream_profiles
from recsys_spark.stream.steps.clear_live import clear_live
from recsys_spark.stream.steps.event_batch import Reading
from recsys_spark.tables.schemas import (
    EVENTS,
    ITEM_WEIGHTS,
    LIVE_RECOMMENDATIONS,
    RECOMMENDATIONS,
    STREAMED_EVENTS,
    STREAMED_QUARANTINE,
)
from tests.bench.changing_lake import ITEMS_AT_FIRST, USERS_AT_FIRST
from tests.bench.lake_files import files_that_name
from tests.bench.stored_rows import commit_rows
from tests.bench.streams import StreamedWorld
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def night(spark, tmp_path_factory):
    """The lake of a first night. It is copied, never changed."""
    return first_night(StreamedWorld(spark, tmp_path_factory.mktemp("night"))).data / "lake"


@pytest.fixture
def world(spark, night, tmp_path):
    """A lake after its first night."""
    shutil.copytree(night, tmp_path / "lake")
    world = StreamedWorld(spark, tmp_path)
    world.nights = 1
    return world


def first_night(world):
    world.commit_sources()
    world.refresh()
    return world


def assert_as_batch(world):
    lists, profiles = world.live()
    batch_lists, batch_profiles = world.batch()
    assert lists == batch_lists
    for user, vector in profiles.items():
        assert (vector is None) == (user not in batch_profiles)
        if vector is not None:
            np.testing.assert_allclose(vector, batch_profiles[user], rtol=1e-5)


def test_profiles_and_lists_equal_those_of_the_batch_jobs(spark, tmp_path, monkeypatch):
    """With texts, rules and keys; late, repeated and unknown events; and when small files are merged on the way."""
    monkeypatch.setattr(recent_events, "_MOST_FILES", 1)
    monkeypatch.setattr(batches, "_MOST_FILES", 2)
    monkeypatch.setattr(batches, "_KEEP_SECONDS", 0.0)
    world = StreamedWorld(spark, tmp_path, match_on="locale", half_life_steps=2.0, session_gap_minutes=60.0)
    world.texts = {3: (1, 0, 1, 0), 8: (0, 1, 0, 2)}
    world.rules = {(5, 2): "deny", (1, 3): "allow"}
    first_night(world)
    world.send((0, 6, 0), (3, 9, 0), (60, 2, 0))
    world.send((0, 6, 0), (1, 7, -30), (3, 5, 1))  # repeated, late, a user again
    world.send((61, 99, 0))  # a user whose only item has no vector
    report = world.stream()
    assert (report["batches"], report["lists_made"], report["tables"]["streamed_events"]) == (3, 7, 7)
    world.send(*((5, n, 1) for n in range(ITEMS_AT_FIRST)))  # nothing is left to list
    assert world.stream()["batches"] == 1
    assert world.lake.read(spark, LIVE_RECOMMENDATIONS).where("rank = 0 AND user_id = 'u5'").count() == 1
    assert_as_batch(world)
    assert world.stream()["status"] == "unchanged"


def test_the_query_of_the_page_has_the_lists_that_count(world):
    world.send((0, 6, 0), *((5, n, 1) for n in range(ITEMS_AT_FIRST)))
    world.stream()
    page = (ROOT / "recsys_spark" / "stream" / "README.md").read_text(encoding="utf-8")
    for table in (RECOMMENDATIONS, LIVE_RECOMMENDATIONS):
        world.lake.read(world.spark, table).createOrReplaceTempView(table.name)
    rows = world.spark.sql(page.partition("```sql")[2].partition("```")[0])
    shown = sorted(map(tuple, rows.select("user_id", "rank", "item_id", "score").collect()))
    assert shown == world.live()[0]
    assert "u5" not in {row[0] for row in shown}


_EVENT = st.tuples(st.integers(0, USERS_AT_FIRST + 2), st.integers(0, ITEMS_AT_FIRST + 1), st.integers(-40, 1))


@pytest.mark.slow
@settings(max_examples=8)
@given(sent=st.lists(st.lists(_EVENT, max_size=4), min_size=1, max_size=4), cut=st.integers(0, 3))
def test_any_split_of_a_log_into_batches_gives_what_the_batch_jobs_give(spark, tmp_path_factory, sent, cut):
    world = first_night(StreamedWorld(spark, tmp_path_factory.mktemp("stream"), max_events=3))
    for part in (sent[:cut], sent[cut:]):
        for events in part:
            world.send(*events)
        world.stream()
    assert_as_batch(world)


def test_lists_by_item_weights_equal_those_of_the_batch_job(spark, tmp_path):
    world = StreamedWorld(spark, tmp_path, scorer="hybrid", quota=1)
    weights = [
        (f"i{n}", f"i{(n * 5 + m) % ITEMS_AT_FIRST}", 1.0 / (m + 1)) for n in range(ITEMS_AT_FIRST) for m in (1, 2, 3)
    ]
    commit_rows(world.lake, ITEM_WEIGHTS, weights, "weights")
    first_night(world)
    world.send((0, 6, 0), (3, 9, 0), (60, 2, 1))
    world.stream()
    assert_as_batch(world)


POINTS = ["commit.after:streamed_events", "commit.after:live_profiles"]

MORE_POINTS = ["stage.after:streamed_events", "commit.before:streamed_events", "commit.after:live_recommendations"]


@pytest.mark.parametrize(
    "points", [POINTS, pytest.param(MORE_POINTS, marks=pytest.mark.slow)], ids=["between", "around"]
)
def test_a_stream_that_fails_anywhere_loses_and_doubles_nothing(world, monkeypatch, points):
    monkeypatch.setattr(stream_profiles, "_WAITS", ())
    for number, point in enumerate(points):
        world.send((number, 6, 0), (8, number, 1))
        monkeypatch.setenv(VARIABLE, f"{point}=fail")
        with pytest.raises(RetryError):
            world.stream()
        lists = world.lake.read_or_empty(world.spark, LIVE_RECOMMENDATIONS)
        assert lists.groupBy("sequence").agg(F.countDistinct("user_id").alias("n")).where("n != 2").isEmpty(), (
            "whole batches"
        )
        monkeypatch.delenv(VARIABLE)
        assert world.stream()["batches"] == 1
    assert world.lake.rows(STREAMED_EVENTS) == 2 * len(points)
    assert_as_batch(world)


def test_a_transient_fault_is_tried_again(world, monkeypatch):
    monkeypatch.setattr(stream_profiles, "_WAITS", (0,))
    monkeypatch.setenv(VARIABLE, "commit.before:live_profiles=fail")
    attempts, rows = [], stream_profiles.stream_rows

    def attempt(*arguments):
        attempts.append(arguments)
        if len(attempts) == 2:
            monkeypatch.delenv(VARIABLE)
        return rows(*arguments)

    monkeypatch.setattr(stream_profiles, "stream_rows", attempt)
    world.send((0, 6, 0))
    assert world.stream()["batches"] == 1
    assert len(attempts) == 2


@pytest.mark.parametrize(("fails", "batches_between", "ends"), [(3, 0, False), (2, 0, True), (9, 1, True)])
def test_attempts_are_counted_from_the_last_batch_that_succeeded(monkeypatch, world_less, fails, batches_between, ends):
    left = [fails]

    def finish(query, batches):
        batches.report["batches"] += batches_between
        left[0] -= 1
        if left[0] >= 0:
            raise RetryError("away")

    monkeypatch.setattr(stream_profiles, "_WAITS", (0, 0))
    monkeypatch.setattr(stream_profiles, "_finish", finish)
    run, counted = world_less
    if ends:
        stream_profiles._until_done(run, lambda: None, counted)
    else:
        with pytest.raises(RetryError, match="away"):
            stream_profiles._until_done(run, lambda: None, counted)


@pytest.fixture
def world_less(tmp_path):
    """A run and batches without a lake or a session."""
    run = Run("stream_profiles", Lake(str(tmp_path)), Progress())
    return run, batches.Batches(run, Reading(None, BadShare(1.0)), "stream")


def test_a_new_night_is_picked_up_between_two_batches(world):
    """It takes over what was streamed before; lists of users with later events are made again, from its vectors."""
    world.send((0, 6, 0), (1, 6, 0))
    world.stream()
    taken_over = world.lake.last_commit(STREAMED_EVENTS).version
    world.send((1, 7, 1))
    world.stream()
    world.run_date += timedelta(days=1)
    world.vectors[80], world.about[80] = (3, 1, 2, 1), (None, None, None)
    later = {(1, 7, 1)}
    world.events -= later
    world.commit_sources()
    mark_taken_over(world, taken_over)
    world.refresh()
    world.events |= later
    clear_live(world.run)
    lists, _ = world.live()
    assert world.lake.rows(LIVE_RECOMMENDATIONS) == 0, "live lists of another night do not count"
    report = world.stream()
    assert (report["batches"], report["lists_made"], report["nights"]) == (0, 1, 1)
    changed = {row[0] for row in set(world.live()[0]) ^ set(lists)}
    assert changed == {"u1"}
    assert_as_batch(world)


def test_a_stream_goes_on_while_a_refresh_is_between_two_tables(world):
    """The profiles of the next night are there, its lists are not yet."""
    world.run_date += timedelta(days=1)
    world.profiles()
    world.run_date -= timedelta(days=1)
    world.send((0, 6, 0))
    assert world.stream()["lists_made"] == 1
    assert {row[0] for row in world.live()[0]} >= {"u0"}
    assert_as_batch(world)


def mark_taken_over(world, version):
    """Commit the events of the night again, with the mark that ingest leaves."""
    from recsys_spark.lake.provenance import Provenance
    from tests.bench.stored_rows import staged

    rows = [tuple(row) for row in world.lake.read(world.spark, EVENTS).collect()]
    world.lake.commit(staged(world.lake, EVENTS, rows), "taken over", provenance=Provenance(streamed=version))


BAD = ['{"user": "u1", "sku": "i1", "what": "view", "at": "soon"}', "{", '{"user": " "}']


def test_a_few_bad_rows_go_to_quarantine_and_many_stop_the_stream(world):
    world.send((0, 6, 0), lines=BAD)
    report = world.stream(max_bad_share=0.5)
    assert (report["events"], report["bad_rows"]) == (1, 3)
    reasons = {row["reason"] for row in world.lake.read(world.spark, STREAMED_QUARANTINE).collect()}
    assert reasons == {"timestamp is null or not a time", "malformed record", "user_id is null or blank"}
    world.send((0, 5, 0), lines=BAD * 7)
    with pytest.raises(QualityError, match="21 of the last 22 rows are bad.*timestamp is null"):
        world.stream(max_bad_share=0.5)
    assert world.lake.rows(STREAMED_EVENTS) == 1


def test_a_forgotten_user_is_in_no_file_and_does_not_come_back(world):
    world.send((60, 2, 0), (3, 9, 0), lines=['{"user": "u60", "sku": "i1", "what": "view", "at": "soon"}'])
    world.stream()
    folder = world.data / "lake"
    assert any("live_recommendations" in path for path in files_that_name(folder, "u60"))
    lists = world.live()[0]
    world.forget(60)
    assert files_that_name(folder, "u60") == []
    world.send((60, 3, 1), (3, 9, 1))
    assert world.stream()["events"] == 1
    assert files_that_name(folder, "u60") == []
    others = [row for row in lists if row[0] not in ("u3", "u60")]
    assert [row for row in world.live()[0] if row[0] != "u3"] == others


def test_a_checkpoint_of_another_stream_is_refused(world, tmp_path):
    world.stream()
    text = world.dataset.read_text()
    world.dataset.write_text(text.replace('path = "arriving"', 'path = "elsewhere"'))
    with pytest.raises(UsageError, match=r"another source of \[stream\]"):
        world.stream()
    world.dataset.write_text(text.replace('from = "clicks"', 'from = "(SELECT * FROM clicks)"'))
    with pytest.raises(UsageError, match="which is not one source"):
        world.stream()
    world.dataset.write_text(text.partition("[stream]")[0] + "[items]" + text.partition("[items]")[2])
    with pytest.raises(UsageError, match=r"has no \[stream\]"):
        world.stream()


def test_a_night_that_depends_on_the_events_of_others_is_refused(spark, tmp_path):
    world = first_night(StreamedWorld(spark, tmp_path, sif=0.01, interests=2))
    with pytest.raises(UsageError, match="sif, interests, which a stream cannot keep up"):
        world.stream(dry_run=True)


@pytest.mark.parametrize(
    ("cause", "kind", "words"),
    [
        ("Multiple streaming queries are concurrently using file:/x/sources/0.", ConflictError, "same checkpoint"),
        ("java.io.IOException: No space left on device", RetryError, "full"),
        ("recsys_spark.errors.RetryError: Kafka does not answer: timed out", RetryError, "Kafka does not answer"),
    ],
)
def test_what_ends_a_query_is_said_and_not_that_it_ended(cause, kind, words):
    text = f"[STREAM_FAILED] Query [id = 1] terminated with exception: {cause} SQLSTATE: XXKST\n=== Streaming Query ==="
    error = stream_profiles._cause(StreamingQueryException(text))
    assert type(error) is kind
    assert words in str(error)


def test_a_folder_that_does_not_exist_is_named(world):
    (world.data / "arriving").rmdir()
    with pytest.raises(InputError, match="arriving"):
        world.stream()
