"""lake_status, restore_lake and clone_lake on a lake of ten nights. No test here needs Spark, unless it says so."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from deltalake import DeltaTable

from recsys_spark.errors import ConflictError, InputError, RetryError, UsageError
from recsys_spark.lake import clones
from recsys_spark.lake.clones import clone_mark, registered_clones
from recsys_spark.lake.lake import Lake
from recsys_spark.lake.provenance import Provenance
from recsys_spark.privacy.options import ForgetOptions
from recsys_spark.privacy.steps.clones import forget_in_clones
from recsys_spark.privacy.steps.forget_users import forget_users
from recsys_spark.refresh.options import CloneOptions, RestoreOptions, StatusOptions, VacuumOptions
from recsys_spark.refresh.steps.clone_lake import clone_lake
from recsys_spark.refresh.steps.lake_status import lake_status
from recsys_spark.refresh.steps.night_versions import SNAPSHOTS
from recsys_spark.refresh.steps.restore_lake import restore_lake
from recsys_spark.refresh.steps.vacuum_lake import vacuum_lake
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.schemas import (
    EVENTS,
    FORGOTTEN,
    ITEM_NEIGHBORS,
    ITEM_VECTORS,
    ITEMS,
    METRICS,
    RECOMMENDATIONS,
    STREAMED_EVENTS,
    TABLES,
    USER_PROFILES,
    USERS,
)
from tests.bench.lake_files import files_that_name
from tests.bench.object_store import bucket, environment
from tests.bench.stored_rows import commit_rows, staged
from tests.bench.ten_nights import AT, day, publish_night, put, rows_of
from tests.conftest import ROOT

NIGHTS = 10


@pytest.fixture(scope="module")
def ten_nights(tmp_path_factory):
    """The lake, and the rows of each table after each night."""
    lake = Lake(str(tmp_path_factory.mktemp("nights") / "lake"))
    history = []
    for number in range(NIGHTS):
        publish_night(lake, number)
        history.append({table: rows_of(lake, table) for table in stored(lake)})
    return lake, history


@pytest.fixture
def lake(ten_nights, tmp_path):
    shutil.copytree(ten_nights[0].uri, tmp_path / "lake")
    return Lake(str(tmp_path / "lake"))


def stored(lake):
    return [table for table in TABLES.values() if lake.version(table) is not None]


def run_of(lake):
    return Run("test", lake, Progress())


def restore(lake, number, **more):
    return restore_lake(run_of(lake), RestoreOptions(lake=lake.uri, run_date=day(number), **more))


def clone(lake, folder, **more):
    return clone_lake(run_of(lake), CloneOptions(lake=lake.uri, to=str(folder), **more))


def of_night(history, number):
    """Rows of the tables that a night replaces."""
    return {table: rows for table, rows in history[number].items() if table in SNAPSHOTS}


def snapshots(lake):
    return {table: rows_of(lake, table) for table in stored(lake) if table in SNAPSHOTS}


def test_any_night_is_back_whole_with_one_command_and_the_last_one_again(lake, ten_nights):
    history = ten_nights[1]
    for number in (3, 0, 9, 6):
        report = restore(lake, number)
        assert report["status"] == "done"
        assert snapshots(lake) == of_night(history, number)
        assert lake.last_commit(RECOMMENDATIONS).key == f"recommend_items:{number}", "a refresh starts from this night"
        assert restore(lake, number)["status"] == "unchanged"
    assert rows_of(lake, METRICS) == history[-1][METRICS], "evaluations are not taken back"


def test_the_report_names_the_versions_that_came_later(lake):
    before = {table.name: lake.last_commit(table).version for table in SNAPSHOTS if lake.last_commit(table)}
    planned = restore(lake, 7, dry_run=True)
    assert {table.name: lake.last_commit(table).version for table in stored(lake) if table in SNAPSHOTS} == before
    report = restore(lake, 7)
    assert report["restored"] == planned["restored"]
    assert report["restored"]["events"] == {"from_version": 9, "to_version": 7, "later_versions": 2}
    assert report["restored"]["items"] == {"from_version": 4, "to_version": 3, "later_versions": 1}
    assert "users" not in report["restored"], "the table has been the same since"
    assert report["tables"]["events"] == 9


def test_no_data_file_is_written_or_removed(lake):
    before = {path: path.stat().st_mtime_ns for path in Path(lake.uri).rglob("*.parquet")}
    restore(lake, 2)
    assert {path: path.stat().st_mtime_ns for path in Path(lake.uri).rglob("*.parquet")} == before


@pytest.mark.parametrize("point", ["commit.before:events", "commit.after:items", "commit.before:recommendations"])
def test_a_restore_that_ends_between_two_tables_is_completed_by_the_same_command(lake, ten_nights, monkeypatch, point):
    monkeypatch.setenv("RECSYS_FAULTS", f"{point}=fail")
    with pytest.raises(RetryError):
        restore(lake, 4)
    assert lake.last_commit(RECOMMENDATIONS).provenance.run_date == day(9), "lists are restored last"
    monkeypatch.delenv("RECSYS_FAULTS")
    restore(lake, 4)
    assert snapshots(lake) == of_night(ten_nights[1], 4)


def test_after_a_vacuum_the_night_is_refused_by_name_and_nothing_changes(lake, ten_nights):
    lake.vacuum(EVENTS, 0)
    with pytest.raises(InputError, match="missing in table events: vacuum_lake"):
        restore(lake, 5)
    assert snapshots(lake) == of_night(ten_nights[1], 9)


def test_a_missing_file_is_refused_before_any_commit(lake, ten_nights):
    Path(lake.file_uris(ITEM_VECTORS, 1)[0]).unlink()
    with pytest.raises(InputError, match="item_vectors"):
        restore(lake, 2)
    assert lake.last_commit(EVENTS).version == 9


def test_what_a_restored_night_needs_survives_the_vacuum(lake, ten_nights):
    restore(lake, 4)
    vacuum_lake(run_of(lake), VacuumOptions(lake=lake.uri, keep_hours=1))
    for table in stored(lake):
        lake.vacuum(table, 0)
    assert snapshots(lake) == of_night(ten_nights[1], 4)


def test_a_night_that_the_log_does_not_have_is_refused_with_those_it_has(lake):
    with pytest.raises(InputError, match=r"no lists of 2024-04-10; .*2024-03-10"):
        restore(lake, 40)


def test_a_table_that_was_made_again_is_refused(lake):
    shutil.rmtree(lake.table_uri(ITEMS))
    for number in range(3):
        put(lake, ITEMS, [(f"i{number}", *[None] * 11)], f"ingest_tables:{number}")
    with pytest.raises(InputError, match="no longer has version 2 of table 'items'"):
        restore(lake, 4)


def test_a_table_of_a_later_day_is_left_and_named(lake, ten_nights):
    put(lake, ITEM_NEIGHBORS, [("i0", "i1", 1, 0.5, "m")], "find_neighbors:1")
    assert restore(lake, 4)["left"] == ["item_neighbors"]
    assert lake.rows(ITEM_NEIGHBORS) == 1


def forget_by_hand(lake):
    """Tombstones alone, as a run of forget_users leaves them that is killed after its first commit."""
    stones = staged(lake, FORGOTTEN, [("user", "hmac:0")])
    lake.commit(stones, "forget_users:1", append=True, provenance=Provenance(tombstone_key="0"))


def test_a_night_before_users_were_forgotten_does_not_come_back(lake, tmp_path):
    forget_by_hand(lake)
    with pytest.raises(InputError, match="forgotten since the night"):
        restore(lake, 4)
    with pytest.raises(InputError, match="forgotten since the night"):
        clone(lake, tmp_path / "clone", run_date=day(4))
    publish_night(lake, 10)
    publish_night(lake, 11)
    assert restore(lake, 10)["status"] == "done"


def test_the_status_names_who_published_what_and_writes_nothing(lake, capsys):
    commit_rows(lake, STREAMED_EVENTS, [("u1", "i1", "view", AT, None, 0)], "stream:abc", append=True, batch=7)
    before = sorted(Path(lake.uri).rglob("*"))
    report = lake_status(Run("lake_status", None, Progress()), StatusOptions(lake=lake.uri))
    assert sorted(Path(lake.uri).rglob("*")) == before
    lists = report["published"]["recommendations"]
    assert (lists["rows"], lists["version"], lists["job"], lists["run_date"]) == (3, 9, "recommend_items", "2024-03-10")
    assert lists["run_key"] == "recommend_items:9"
    files = [Path(uri) for uri in lake.file_uris(RECOMMENDATIONS, 9)]
    assert (lists["files"], lists["bytes"]) == (len(files), sum(file.stat().st_size for file in files))
    streamed = report["published"]["streamed_events"]
    assert (streamed["job"], streamed["last_batch"]) == ("stream_profiles", 7)
    shown = capsys.readouterr().out
    assert all(name in shown for name in report["tables"])
    with pytest.raises(InputError, match="has no tables"):
        lake_status(Run("lake_status", None, Progress()), StatusOptions(lake=lake.uri + "x"))


def test_a_clone_has_the_same_tables_and_goes_on_by_itself(lake, ten_nights, tmp_path):
    report = clone(lake, tmp_path / "clone")
    copy = Lake(str(tmp_path / "clone"))
    assert report["tables"] == {table.name: lake.rows(table) for table in stored(lake)}
    assert {table: rows_of(copy, table) for table in stored(copy)} == ten_nights[1][9]
    for table in stored(lake):
        assert copy.last_commit(table) == lake.last_commit(table), "versions, keys and provenance are the same"
    assert report["files_linked"] == sum(os.stat(file).st_nlink == 2 for file in Path(copy.uri).rglob("part-*.parquet"))
    publish_night(copy, 10)
    publish_night(lake, 11)
    assert snapshots(lake)[RECOMMENDATIONS][0]["item_id"] == "i11"
    assert snapshots(copy)[RECOMMENDATIONS][0]["item_id"] == "i10"
    assert clone(lake, tmp_path / "clone")["status"] == "unchanged"


def test_each_of_both_can_be_vacuumed_and_removed(lake, ten_nights, tmp_path):
    clone(lake, tmp_path / "clone")
    copy = Lake(str(tmp_path / "clone"))
    publish_night(lake, 10)
    for table in stored(lake):
        lake.vacuum(table, 0)
    assert snapshots(copy) == of_night(ten_nights[1], 9)
    shutil.rmtree(lake.uri)
    assert snapshots(copy) == of_night(ten_nights[1], 9)


def test_a_night_can_be_cloned(lake, ten_nights, tmp_path):
    clone(lake, tmp_path / "clone", run_date=day(3))
    assert snapshots(Lake(str(tmp_path / "clone"))) == of_night(ten_nights[1], 3)
    with pytest.raises(UsageError, match="a clone already, of .*night of 2024-03-04"):
        clone(lake, tmp_path / "clone")


def test_where_links_are_impossible_files_are_copied(lake, ten_nights, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    report = clone(lake, tmp_path / "clone")
    assert report["files_copied"] > 0
    assert report["files_linked"] == 0
    assert snapshots(Lake(str(tmp_path / "clone"))) == of_night(ten_nights[1], 9)


@pytest.mark.parametrize("table", ["events", "recommendations"])
def test_a_killed_clone_is_no_lake_and_is_completed_by_the_same_command(lake, ten_nights, tmp_path, table):
    arguments = [f"--lake={lake.uri}", f"--to={tmp_path / 'clone'}"]
    command = [sys.executable, str(ROOT / "jobs" / "clone_lake.py"), *arguments]
    where = os.environ | {"PYTHONPATH": str(ROOT), "RECSYS_FAULTS": f"commit.before:{table}=kill"}
    assert subprocess.run(command, env=where, capture_output=True, check=False).returncode == -9
    copy = Lake(str(tmp_path / "clone"))
    assert (clone_mark(copy.uri).complete, copy.version(RECOMMENDATIONS)) == (False, None)
    publish_night(lake, 10)  # the versions were chosen by the first run
    clone(lake, tmp_path / "clone")
    assert snapshots(copy) == of_night(ten_nights[1], 9)


def test_a_clone_that_is_killed_within_a_log_shows_no_older_version(lake, tmp_path, monkeypatch):
    """Whether the log begins with its first entry, or with a checkpoint as a cleaned one does."""
    DeltaTable(lake.table_uri(EVENTS)).create_checkpoint()
    (Path(lake.table_uri(EVENTS)) / "_delta_log" / f"{0:020}.json").unlink()
    copy = Lake(str(tmp_path / "clone"))
    complete = clones.clone_file
    for table, entries in ((ITEM_VECTORS, 5), (EVENTS, 10)):
        for last in range(entries):
            done = []

            def until_last(source, target, done=done, last=last):
                if "_delta_log" in source:
                    done.append(source)
                if len(done) > last:
                    raise RetryError("killed")
                return complete(source, target)

            monkeypatch.setattr(clones, "clone_file", until_last)
            files = [uri.rpartition("/")[2] for uri in lake.file_uris(table, lake.last_commit(table).version)]
            arguments = (lake.table_uri(table), copy.table_uri(table), lake.version(table), files)
            with pytest.raises(RetryError):
                clones.clone_table(*arguments)
            assert opened(copy, table) is None, last
        monkeypatch.setattr(clones, "clone_file", complete)
        clones.clone_table(*arguments)
        assert rows_of(copy, table) == rows_of(lake, table)


def opened(lake, table):
    """The version that readers find; None if they find no table or a damaged one."""
    try:
        return lake.version(table)
    except InputError:
        return None


def test_a_clone_at_the_place_of_something_else_is_refused(lake, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(UsageError, match="is not empty"):
        clone(lake, tmp_path / "other")
    with pytest.raises(UsageError, match="lie in each other"):
        clone(lake, Path(lake.uri) / "clone")


def test_a_file_that_is_missing_ends_the_clone_with_its_name(lake, tmp_path):
    Path(lake.file_uris(USERS, 0)[0]).unlink()
    with pytest.raises(InputError, match="is missing: a vacuum has removed it"):
        clone(lake, tmp_path / "clone")
    assert Lake(str(tmp_path / "clone")).version(USERS) is None


def forget_in(lake):
    """``forget_in_clones`` with a step that notes where it was called, and goes on to the clones there."""
    called = []

    def forget(run):
        called.append(run.lake.uri)
        return {"proof": {"rows_removed": {"events": 1}} | forget_in_clones(run, forget)}

    return called, forget_in_clones(run_of(lake), forget)


def test_forgetting_goes_on_to_the_clones_and_their_clones(lake, tmp_path):
    clone(lake, tmp_path / "clone")
    copy = Lake(str(tmp_path / "clone"))
    clone(copy, tmp_path / "again")
    called, proof = forget_in(lake)
    assert (called, proof) == ([copy.uri, str(tmp_path / "again")], {"clones": {copy.uri: {"events": 1}}})
    shutil.move(copy.uri, tmp_path / "moved")
    assert forget_in(lake) == ([], {"clones_not_found": [copy.uri]})


def test_forgetting_does_not_pass_over_an_unfinished_clone(lake, tmp_path, monkeypatch):
    monkeypatch.setenv("RECSYS_FAULTS", "commit.before:recommendations=fail")
    with pytest.raises(RetryError):
        clone(lake, tmp_path / "clone")
    monkeypatch.delenv("RECSYS_FAULTS")
    assert list(registered_clones(lake.uri).values()) == [str(tmp_path / "clone")]
    with pytest.raises(ConflictError, match="is an unfinished clone"):
        forget_in(lake)
    clone(lake, tmp_path / "clone")
    assert forget_in(lake)[0] == [str(tmp_path / "clone")]


@pytest.mark.slow
def test_nights_are_restored_and_cloned_on_an_object_store(lake, ten_nights, store, monkeypatch):
    for name, value in environment(store).items():
        monkeypatch.setenv(name, value)
    uris = [bucket(store, name) for name in ("first", "second")]
    copies = [Lake(uri) for uri in uris]
    assert clone(lake, uris[0])["files_copied"] > 0
    assert snapshots(copies[0]) == of_night(ten_nights[1], 9)
    publish_night(copies[0], 10)
    rows = snapshots(copies[0])
    publish_night(copies[0], 11)
    # In a process of its own: deltalake's restore would keep the store's thread from answering.
    command = [sys.executable, str(ROOT / "jobs" / "restore_lake.py"), f"--lake={uris[0]}", f"--run_date={day(10)}"]
    where = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=where, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    clone(copies[0], uris[1])
    assert [snapshots(copy) for copy in copies] == [rows, rows]
    assert lake_status(Run("lake_status", None, Progress()), StatusOptions(lake=uris[1]))["clone_of"] == uris[0]


@pytest.mark.slow
def test_who_is_forgotten_is_in_no_file_of_a_clone_and_no_night_brings_them_back(spark, lake, tmp_path):
    clone(lake, tmp_path / "clone")
    copy = Lake(str(tmp_path / "clone"))
    proof = forget_users(run_of(lake), ForgetOptions(lake=lake.uri, user_ids="u1"))["proof"]
    assert set(proof["clones"]) == {copy.uri}
    for part in (lake, copy):
        assert not files_that_name(Path(part.uri), "u1")
        assert all("u1" not in str(row) for table in (EVENTS, USERS, USER_PROFILES) for row in rows_of(part, table))
        with pytest.raises(InputError, match="forgotten since"):
            restore(part, 4)


def test_the_three_jobs_start_neither_java_nor_torch(lake, tmp_path):
    jobs = {
        "lake_status": [f"--lake={lake.uri}"],
        "restore_lake": [f"--lake={lake.uri}", f"--run_date={day(3)}"],
        "clone_lake": [f"--lake={lake.uri}", f"--to={tmp_path / 'clone'}"],
    }
    for job, arguments in jobs.items():
        where = os.environ | {"RECSYS_PYTHON": sys.executable, "JAVA_HOME": str(tmp_path), "SPARK_PROFILE": "yarn"}
        command = [str(ROOT / "spark-submit.sh"), job, *arguments]
        done = subprocess.run(command, env=where, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1])["status"] == "done"
