"""The lake: staged files are invisible, a commit shows one whole version, damaged files are errors."""

import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, SchemaMismatchError
from py4j.protocol import Py4JError
from pyarrow.fs import LocalFileSystem
from pyspark.errors import PySparkException

from recsys_spark.errors import ConflictError, InputError, RetryError
from recsys_spark.errors.messages import to_user_error
from recsys_spark.lake import commits
from recsys_spark.lake.data_files import file_batches
from recsys_spark.lake.lake import Lake
from recsys_spark.lake.provenance import Provenance
from recsys_spark.lake.whole_files import write_whole
from recsys_spark.tables.schemas import (
    EMBEDDINGS,
    EVENTS,
    ITEM_VECTORS,
    LISTS,
    RECOMMENDATIONS,
    TABLES,
    USERS,
    VECTORS,
    Table,
)

ONE = [("u1", "first", "h1", "de", ["adult"], '{"age": 30}'), ("u2", None, None, None, None, None)]
TWO = [("u3", "second", "h2", "fr", [], None)]
SPARK_FAILURES = (PySparkException, Py4JError)


def users(spark, rows, partitions=1):
    return spark.createDataFrame(rows, USERS.ddl).coalesce(partitions)


def shown(spark, lake, version=None):
    return sorted(tuple(row) for row in lake.read(spark, USERS, version).collect())


def data_files(lake, table=USERS):
    return sorted(Path(lake.table_uri(table)).glob("*.parquet"))


@pytest.fixture(scope="module")
def published(spark, tmp_path_factory):
    """The table ``users`` in two versions: ONE, then TWO in its place."""
    lake = Lake(str(tmp_path_factory.mktemp("published")))
    lake.commit(lake.stage(users(spark, ONE), USERS), "run-1")
    lake.commit(lake.stage(users(spark, TWO), USERS), "run-2", provenance=Provenance.of(k=3))
    return lake


@pytest.fixture
def copied(published, tmp_path):
    """A copy to damage."""
    shutil.copytree(published.uri, tmp_path / "lake")
    return Lake(str(tmp_path / "lake"))


def test_nothing_is_visible_before_the_commit_and_everything_after_it(spark, tmp_path):
    lake = Lake(str(tmp_path / "lake"))
    staged = lake.stage(users(spark, ONE), USERS)
    assert staged.rows == 2
    assert len(data_files(lake)) == 1
    assert lake.version(USERS) is None
    assert lake.rows(USERS) == 0
    assert lake.published_by(USERS, "run-1") is None
    assert lake.read_or_empty(spark, USERS).columns == list(USERS.columns)
    assert sorted(tuple(row) for row in lake.read_staged(spark, staged).collect()) == ONE
    assert lake.commit(staged, "run-1") == 0
    assert (lake.version(USERS), lake.rows(USERS)) == (0, 2)
    assert shown(spark, lake) == ONE


def test_a_stage_that_is_never_committed_leaves_files_that_no_reader_sees(spark, copied):
    before = data_files(copied)
    copied.stage(users(spark, [("orphan", None, None, None, None, None)]), USERS)
    assert len(data_files(copied)) == len(before) + 1
    assert copied.version(USERS) == 1
    assert shown(spark, copied) == TWO
    assert DeltaTable(copied.table_uri(USERS)).to_pyarrow_table()["user_id"].to_pylist() == ["u3"]


def test_a_stage_whose_tasks_fail_publishes_nothing(spark, copied):
    broken = users(spark, ONE).selectExpr(
        "user_id",
        "if(user_id = 'u2', raise_error('broken'), text) AS text",
        "text_hash",
        "locale",
        "groups",
        "attributes",
    )
    with pytest.raises(PySparkException, match="broken"):
        copied.stage(broken, USERS)
    assert copied.version(USERS) == 1
    assert shown(spark, copied) == TWO


def test_an_overwrite_replaces_the_rows_and_keeps_the_old_version(spark, published):
    assert published.version(USERS) == 1
    assert published.rows(USERS) == 1
    assert shown(spark, published) == TWO
    assert shown(spark, published, 0) == ONE


def test_an_append_adds_rows(spark, copied):
    assert copied.commit(copied.stage(users(spark, ONE), USERS), "run-3", append=True) == 2
    assert copied.rows(USERS) == 3
    assert shown(spark, copied) == ONE + TWO
    assert shown(spark, copied, 1) == TWO


def test_a_table_can_gain_a_column_that_is_null_in_older_rows(spark, tmp_path):
    lake, names = Lake(str(tmp_path / "lake")), [*USERS.columns][:-3]
    before = Table(USERS.name, {name: USERS.columns[name] for name in names}, USERS.key)
    lake.commit(lake.stage(users(spark, ONE).select(*names), before), "run-1")
    stored = [row[:3] + (None, None, None) for row in ONE]
    assert shown(spark, lake) == stored
    [file] = data_files(lake)
    batches = list(file_batches(str(file), USERS.arrow_schema))
    assert pa.Table.from_batches(batches).equals(
        pa.Table.from_pylist([dict(zip(USERS.columns, row, strict=True)) for row in stored], USERS.arrow_schema)
    )
    last = lake.last_commit(USERS)
    lake.commit(lake.stage(users(spark, TWO), USERS), "run-2", append=True, exclusive=True)
    assert shown(spark, lake) == stored + TWO
    columns = [field.name for field in DeltaTable(lake.table_uri(USERS)).schema().fields]
    assert columns == [*USERS.columns], "other readers see the column too"
    assert [commit.key for commit in lake.commits(USERS, 9)] == ["run-2", last.key]
    lake.commit(lake.stage(users(spark, TWO), USERS), "run-3", append=True, exclusive=True)


def test_published_by_knows_only_the_run_of_the_newest_commit(spark, copied):
    assert copied.published_by(USERS, "run-2") == 1
    assert copied.published_by(USERS, "run-1") is None
    assert copied.published_by(USERS, "run-0") is None
    assert copied.has_commit(USERS, "run-1")
    assert not copied.has_commit(USERS, "run-0")
    assert not copied.has_commit(EVENTS, "run-1")
    copied.commit(copied.stage(users(spark, ONE), USERS), "run-1")
    assert copied.published_by(USERS, "run-1") == 2
    assert copied.published_by(USERS, "run-2") is None


def test_a_frame_without_rows_makes_an_empty_table(spark, copied):
    empty = copied.stage(users(spark, []), USERS)
    assert (empty.rows, empty.actions) == (0, [])
    assert copied.read_staged(spark, empty).schema == copied.read(spark, USERS).schema
    copied.commit(empty, "run-3")
    assert (copied.version(USERS), copied.rows(USERS)) == (2, 0)
    assert shown(spark, copied) == []
    assert copied.commit(copied.stage(spark.createDataFrame([], EVENTS.ddl), EVENTS), "run-3") == 0
    assert copied.read(spark, EVENTS).columns == list(EVENTS.columns)


@pytest.mark.parametrize(
    "columns",
    [
        ["user_id", "text", "locale", "groups", "attributes"],
        ["user_id", "text", "text_hash", "locale", "groups", "attributes", "1 AS more"],
        ["user_id", "text", "1 AS text_hash", "locale", "groups", "attributes"],
        ["user_id AS user", "text", "text_hash", "locale", "groups", "attributes"],
    ],
)
def test_a_frame_that_breaks_the_contract_of_its_table_is_refused_before_any_work(spark, tmp_path, columns):
    lake = Lake(str(tmp_path))
    with pytest.raises(TypeError, match="table 'users' has the columns"):
        lake.stage(users(spark, ONE).selectExpr(*columns), USERS)
    assert not Path(lake.table_uri(USERS)).exists()


def test_the_order_of_columns_is_the_order_of_the_contract(spark, tmp_path):
    lake = Lake(str(tmp_path))
    lake.commit(
        lake.stage(users(spark, ONE).select("groups", "text_hash", "attributes", "user_id", "locale", "text"), USERS),
        "run-1",
    )
    assert shown(spark, lake) == ONE


def test_other_engines_read_the_table(published):
    delta = DeltaTable(published.table_uri(USERS))
    assert [tuple(row.values()) for row in delta.to_pyarrow_table().to_pylist()] == TWO
    assert pq.read_table(delta.file_uris()).column_names == list(USERS.columns)
    assert delta.metadata().name == "users"
    assert delta.history()[0]["recsys_run_key"] == "run-2"


def test_bounds_of_the_key_columns_cover_every_file_and_name_nobody(spark, tmp_path):
    lake = Lake(str(tmp_path))
    rows = [(f"u{n:03}", f"i{n:03}", f"type {n:03}", None, None) for n in range(40)]
    lake.commit(lake.stage(spark.createDataFrame(rows, EVENTS.ddl).repartition(3), EVENTS), "run-1")
    actions = pa.table(DeltaTable(lake.table_uri(EVENTS)).get_add_actions(flatten=True)).to_pylist()
    assert len(actions) == 3
    assert sum(action["num_records"] for action in actions) == 40
    for action in actions:
        types = pq.read_table(f"{lake.table_uri(EVENTS)}/{action['path']}")["event_type"].to_pylist()
        assert (action["min.event_type"], action["max.event_type"]) == (min(types), max(types))
        for name in ("min.user_id", "min.item_id"):
            assert action.get(name) is None  # the log outlives rows that users ask to remove


def test_vectors_and_times_come_back_as_they_were_written(spark, tmp_path):
    lake = Lake(str(tmp_path))
    vectors = spark.createDataFrame([("a", "m", [0.1, -0.0, 3e38])], ITEM_VECTORS.ddl)
    lake.commit(lake.stage(vectors, ITEM_VECTORS), "run-1")
    assert lake.read(spark, ITEM_VECTORS).collect() == vectors.collect()
    events = spark.sql(
        "SELECT 'u' AS user_id, 'a' AS item_id, 'view' AS event_type, "
        "timestamp'2024-02-29 23:59:59.999999' AS timestamp, CAST(null AS double) AS value"
    )
    lake.commit(lake.stage(events, EVENTS), "run-1")
    row = lake.read(spark, EVENTS).selectExpr("CAST(timestamp AS string) AS at", "value").collect()[0]
    assert tuple(row) == ("2024-02-29 23:59:59.999999", None)


def test_a_flipped_byte_in_a_data_page_is_an_error_and_not_a_wrong_sum(spark, tmp_path):
    lake = Lake(str(tmp_path))
    rows = [("h", "m", [float(n * k % 97) for k in range(1500)]) for n in range(3)]
    lake.commit(lake.stage(spark.createDataFrame(rows, EMBEDDINGS.ddl).coalesce(1), EMBEDDINGS), "run-1")
    [path] = data_files(lake, EMBEDDINGS)
    total = "sum(aggregate(embedding, double(0), (a, x) -> a + x)) AS total"
    assert lake.read(spark, EMBEDDINGS).selectExpr(total).collect()[0][0] == sum(sum(row[2]) for row in rows)
    column = pq.ParquetFile(path).metadata.row_group(0).column(2)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(SPARK_FAILURES) as caught:
        lake.read(spark, EMBEDDINGS).selectExpr(total).collect()
    error = to_user_error(caught.value)
    assert isinstance(error, InputError)
    assert path.name in str(error)


def test_a_missing_data_file_is_named(spark, copied):
    [path] = [Path(uri) for uri in DeltaTable(copied.table_uri(USERS)).file_uris()]
    path.unlink()
    with pytest.raises((InputError, *SPARK_FAILURES)) as caught:
        shown(spark, copied)
    error = caught.value if isinstance(caught.value, InputError) else to_user_error(caught.value)
    assert isinstance(error, InputError)
    assert path.name in str(error)


def test_a_truncated_data_file_is_named(spark, copied):
    [path] = [Path(uri) for uri in DeltaTable(copied.table_uri(USERS)).file_uris()]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SPARK_FAILURES) as caught:
        shown(spark, copied)
    error = to_user_error(caught.value)
    assert isinstance(error, InputError)
    assert path.name in str(error)


def test_a_table_that_was_never_published_is_missing_by_name(spark, published):
    with pytest.raises(InputError, match="table 'events' is missing in lake") as caught:
        published.read(spark, EVENTS)
    assert published.uri in str(caught.value)
    assert published.version(EVENTS) is None
    assert published.rows(EVENTS) == 0


def test_a_version_that_does_not_exist_is_an_input_error(spark, published):
    with pytest.raises(InputError, match="users"):
        published.read(spark, USERS, 9)


@pytest.mark.parametrize("content", ["{not json", "", '{"add": 5}\n'])
def test_a_damaged_commit_log_is_an_input_error_that_names_the_table(spark, copied, content):
    for log in Path(copied.table_uri(USERS), "_delta_log").glob("*.json"):
        log.write_text(content)
    with pytest.raises(InputError, match="table 'users' in lake .* cannot be read"):
        copied.read(spark, USERS)


def in_between(monkeypatch, happens):
    """Call ``happens`` once, after a commit has checked the table and before it writes to the log."""
    events = [happens]

    def failpoint(name, table):
        if name == "commit.before" and events:
            events.pop()()

    monkeypatch.setattr(commits, "failpoint", failpoint)


def test_two_runs_that_create_the_same_table_conflict(spark, tmp_path, monkeypatch):
    lake = Lake(str(tmp_path))
    mine, theirs = lake.stage(users(spark, ONE), USERS), lake.stage(users(spark, TWO), USERS)
    in_between(monkeypatch, lambda: lake.commit(theirs, "theirs"))
    with pytest.raises(ConflictError, match="table 'users' was published by another run since this one started"):
        lake.commit(mine, "mine")
    assert lake.version(USERS) == 0
    assert shown(spark, lake) == TWO


def test_two_runs_that_overwrite_the_same_version_conflict(spark, copied, monkeypatch):
    mine, theirs = copied.stage(users(spark, ONE), USERS), copied.stage(users(spark, ONE + TWO), USERS)
    in_between(monkeypatch, lambda: copied.commit(theirs, "theirs"))
    with pytest.raises(ConflictError, match="table 'users' was published by another run since this one started"):
        copied.commit(mine, "mine")
    assert shown(spark, copied) == ONE + TWO
    assert copied.last_commit(USERS).key == "theirs"


def test_a_commit_that_nothing_has_changed_is_overtaken_too(spark, copied, monkeypatch):
    same, theirs = copied.stage(users(spark, TWO), USERS), copied.stage(users(spark, ONE), USERS)
    in_between(monkeypatch, lambda: copied.commit(theirs, "theirs"))
    with pytest.raises(ConflictError):
        copied.commit(same, "mine")
    assert copied.last_commit(USERS).key == "theirs"


def test_an_append_and_a_snapshot_at_once_are_both_seen_or_refused(spark, copied, monkeypatch):
    more, whole = copied.stage(users(spark, ONE), USERS), copied.stage(users(spark, ONE), USERS)
    in_between(monkeypatch, lambda: copied.commit(more, "more", append=True))
    with pytest.raises(ConflictError):
        copied.commit(whole, "whole")
    assert shown(spark, copied) == ONE + TWO
    once_more, theirs = copied.stage(users(spark, TWO), USERS), copied.stage(users(spark, ONE), USERS)
    in_between(monkeypatch, lambda: copied.commit(theirs, "theirs"))
    copied.commit(once_more, "once more", append=True)
    assert shown(spark, copied) == ONE + TWO


@pytest.mark.parametrize("append", [False, True])
def test_of_the_same_run_twice_at_once_one_commits_and_both_are_done(append, spark, copied, monkeypatch):
    mine, theirs = copied.stage(users(spark, ONE), USERS), copied.stage(users(spark, ONE), USERS)
    in_between(monkeypatch, lambda: copied.commit(theirs, "run-3", append=append))
    assert copied.commit(mine, "run-3", append=append) == 2
    assert copied.version(USERS) == 2
    assert shown(spark, copied) == (ONE + TWO if append else ONE)
    assert mine.actions[0].path not in {path.name for path in data_files(copied)}


def test_a_run_that_another_process_has_committed_since_has_commit_is_not_appended_again(spark, copied):
    assert not copied.has_commit(USERS, "night")
    another = Lake(copied.uri)
    another.commit(another.stage(users(spark, TWO), USERS), "night", append=True)
    copied.commit(copied.stage(users(spark, TWO), USERS), "night", append=True)
    assert shown(spark, copied) == TWO + TWO
    assert copied.has_commit(USERS, "night")
    copied.commit(copied.stage(users(spark, TWO), USERS), "night", append=True)  # after another call of has_commit
    assert shown(spark, copied) == TWO + TWO + TWO


def test_an_exclusive_append_is_refused_after_another_commit(spark, copied):
    staged = copied.stage(users(spark, ONE), USERS)
    copied.commit(copied.stage(users(spark, TWO), USERS), "another", append=True)
    with pytest.raises(ConflictError):
        copied.commit(staged, "night", append=True, exclusive=True)
    copied.commit(staged, "night", append=True)


def test_a_commit_whose_reply_was_lost_keeps_its_files(spark, copied, monkeypatch):
    staged, transact = copied.stage(users(spark, ONE), USERS), commits._transact

    def lose_reply(*arguments, **options):
        transact(*arguments, **options)
        monkeypatch.setattr(commits, "_transact", transact)
        raise CommitFailedError("Failed to commit transaction: 0")

    monkeypatch.setattr(commits, "_transact", lose_reply)
    assert copied.commit(staged, "run-3") == 2
    assert (copied.version(USERS), shown(spark, copied)) == (2, ONE)


def test_vacuum_makes_no_conflict_before_a_commit_or_in_the_middle_of_it(spark, copied, monkeypatch):
    last = copied.last_commit(USERS)
    copied.vacuum(USERS, 0)
    assert copied.version(USERS) > last.version
    assert copied.last_commit(USERS) == last
    staged = copied.stage(users(spark, ONE), USERS, base=last.version)
    [orphan] = copied.stage(users(spark, TWO), USERS).actions
    os.utime(f"{copied.table_uri(USERS)}/{orphan.path}", (0, 0))
    in_between(monkeypatch, lambda: copied.vacuum(USERS, 1))
    before = copied.version(USERS)
    assert copied.commit(staged, "run-3") > before + 1
    assert shown(spark, copied) == ONE
    copied.vacuum(USERS, 0)
    again = copied.stage(users(spark, ONE + TWO), USERS)  # --full, for instance: the key is the same
    assert copied.commit(again, "run-3") == copied.version(USERS)
    assert shown(spark, copied) == ONE + TWO


def test_a_table_whose_old_commits_were_cleaned_up_still_has_a_last_commit(copied):
    copied.vacuum(USERS, 0)
    identity = copied.last_commit(USERS).identity
    DeltaTable(copied.table_uri(USERS)).create_checkpoint()
    for number in range(2):
        Path(copied.table_uri(USERS), "_delta_log", f"{number:020}.json").unlink()
    last = copied.last_commit(USERS)
    assert (last.version, last.identity, last.key, last.provenance) == (2, identity, None, Provenance())


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CommitFailedError("Failed to commit transaction: Generic S3 error: 503 Service Unavailable"), RetryError),
        (OSError("AWS Error NETWORK_CONNECTION during PutObject operation: curlCode: 7"), RetryError),
        (SchemaMismatchError("Cannot merge types"), SchemaMismatchError),
        (
            CommitFailedError("Failed to commit transaction: 0"),
            CommitFailedError,
        ),  # no other commit came first
    ],
)
def test_a_refused_commit_is_a_conflict_only_if_another_one_came_first(spark, copied, monkeypatch, error, expected):
    def refused(*_, **__):
        raise error

    staged = copied.stage(users(spark, ONE), USERS)
    monkeypatch.setattr(commits, "_transact", refused)
    with pytest.raises(expected):
        copied.commit(staged, "run-3")


def test_a_commit_that_found_the_disk_full_says_so_in_one_plain_line(spark, copied, monkeypatch):
    error = "Generic LocalFileSystem error\n \x1b[31m↳\x1b[0m Unable to copy\n \x1b[31m↳\x1b[0m No space left on device"

    def refused(*_, **__):
        raise OSError(error)

    staged = copied.stage(users(spark, ONE), USERS)
    monkeypatch.setattr(commits, "_transact", refused)
    full = "the disk is full: make room, then run the same command again"
    said = "Generic LocalFileSystem error Unable to copy No space left on device"
    with pytest.raises(RetryError, match=rf"table 'users': .*: {full} \({said}\)$"):
        copied.commit(staged, "run-3")


def test_the_status_of_a_run_is_written_beside_the_tables(tmp_path):
    lake = Lake(str(tmp_path / "new" / "lake"))
    lake.plain.write_status("some_job", "2024-03-01", {"status": "done", "title": "日本"})
    lake.plain.write_status("some_job", "2024-03-01", {"status": "unchanged"})
    status = tmp_path / "new" / "lake" / "_status" / "some_job" / "2024-03-01.json"
    assert json.loads(status.read_text(encoding="utf-8")) == {"status": "unchanged"}


def test_a_lake_that_cannot_be_written_is_refused_before_any_work(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(InputError, match="is not writable"):
        Lake(str(blocked)).plain.check_writable()
    lake = Lake(str(tmp_path / "lake"))
    lake.plain.check_writable()
    assert list((tmp_path / "lake" / "_status").iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "my lake [1]{x,y} #?*&;+é",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("100%", "lake[1]^|", "{x,y}~'", "#?*&;+é", "a:b#")),
    ],
)
def test_a_lake_may_lie_in_a_folder_of_any_name(name, spark, tmp_path):
    lake = Lake(str(tmp_path / name / "lake"))
    lake.plain.check_writable()
    assert lake.version(USERS) is None
    first = lake.commit(lake.stage(users(spark, ONE), USERS), "run-1")
    staged = lake.stage(users(spark, TWO, partitions=2), USERS)
    assert lake.read_staged(spark, staged).count() == 1
    second = lake.commit(staged, "run-2", provenance=Provenance.of(k=3))
    lake.discard(lake.stage(users(spark, ONE), USERS))
    assert (lake.last_commit(USERS).key, lake.last_commit(USERS).provenance) == ("run-2", Provenance.of(k=3))
    assert lake.has_commit(USERS, "run-1")
    assert lake.can_read(USERS, first)
    assert (shown(spark, lake, first), shown(spark, lake)) == (sorted(ONE), sorted(TWO))
    assert lake.read_files(spark, USERS, lake.files(USERS)).count() == 3
    assert len(lake.vacuum(USERS, 0)) == 1
    assert (lake.can_read(USERS, first), lake.can_read(USERS, second)) == (False, True)
    assert shown(spark, lake) == sorted(TWO)
    assert {path.name for path in tmp_path.iterdir()} == {name}


@pytest.mark.parametrize(
    ("given", "uri"), [("/a/b/", "/a/b"), ("s3://bucket/lake/", "s3://bucket/lake"), ("relative", "relative")]
)
def test_a_lake_is_named_by_an_absolute_path_or_a_uri(given, uri):
    expected = str(Path(uri).absolute()) if uri == "relative" else uri
    assert Lake(given).uri == expected
    assert Lake(given).table_uri(USERS) == f"{expected}/users"


@pytest.mark.parametrize("name", TABLES)
def test_every_contract_can_be_written_and_read(name, spark):
    table = TABLES[name]
    assert [field.name for field in table.arrow_schema] == list(table.columns)
    assert set(table.key) <= set(table.columns)
    # Live rows without a profile or an item are no faults; a vector with noise has any length.
    unchecked = name.startswith(("live_", "noisy_"))
    assert (VECTORS in table.checks) == ("embedding" in table.columns and not unchecked)
    assert (LISTS in table.checks) == ({"user_id", "rank", "score"} <= set(table.columns) and not unchecked)
    assert dict(spark.createDataFrame([], table.ddl).dtypes) == table.columns


def test_tasks_run_the_checks_that_the_contract_names(spark, tmp_path):
    lake = Lake(str(tmp_path))
    vectors = spark.createDataFrame([("a", "m", [2.0, 0.0]), ("b", "m", [0.0, 0.0])], ITEM_VECTORS.ddl).coalesce(1)
    [stats] = lake.stage(vectors, ITEM_VECTORS).stats
    assert stats == {"vectors": {"number": 1, "unusable": 1, "norm": 2.0, "direction": [1.0, 0.0]}}
    rows = [("u", "a", 0.5, 1, None, "m", None, None), ("u", "a", 0.6, 2, None, "m", None, None)]
    [stats] = lake.stage(spark.createDataFrame(rows, RECOMMENDATIONS.ddl).coalesce(1), RECOMMENDATIONS).stats
    assert stats == {"list_faults": {"not_a_number": 0, "not_in_order": 1, "twice": 1}}
    assert lake.stage(users(spark, ONE), USERS).stats == [{}]


def test_a_small_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    local, path = LocalFileSystem(), str(tmp_path / "status.json")
    write_whole(local, path, b"one")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(OSError, match="killed"):
        write_whole(local, path, b"two")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("status.json", b"one")]
