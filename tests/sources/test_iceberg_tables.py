"""Iceberg tables: deletes and evolved tables are read rightly or refused by name; a night reads what was appended."""

from datetime import UTC, datetime
from unittest.mock import patch

import pyarrow as pa
import pytest

from recsys_spark.errors import InputError, RetryError, UsageError
from recsys_spark.sources.arrow_types import arrow_schema
from recsys_spark.sources.dataset_file import Source
from tests.bench.iceberg_tables import CATALOG, catalog, compact, delete_rows

pytest.importorskip("pyiceberg")
pytest.importorskip("sqlalchemy")

TABLE = {"format": "iceberg", "catalog": CATALOG, "table": "shop.log"}


def at(day):
    return datetime(2024, 3, day, 10, tzinfo=UTC)


def rows_of(*users, day=1):
    schema = pa.schema({"user": pa.string(), "n": pa.int32(), "at": pa.timestamp("us", "UTC")})
    return pa.Table.from_pylist([{"user": user, "n": day, "at": at(day)} for user in users], schema=schema)


@pytest.fixture
def table(tmp_path):
    made = catalog(tmp_path).create_table("shop.log", schema=rows_of().schema, properties={"format-version": "2"})
    made.append(rows_of("a", "b", "c"))
    return made


def listing(folder="", **more):
    from recsys_spark.sources.iceberg import iceberg_listing

    return iceberg_listing("log", Source(**(TABLE | more if "path" not in more else {"format": "iceberg"} | more)),
                           str(folder))  # fmt: skip


def rows(frame):
    return sorted((row.asDict() for row in frame.collect()), key=str)


def added(before, **more):
    part = (now := listing(**more)).added(before)
    return part if isinstance(part, str) else (part.words, users_here(now, part))


def users_here(listed, part=None):
    """The users as tasks read them, read in this process."""
    with patch("recsys_spark.sources.iceberg.rows_of_tasks", _here):
        return listed.frame(None, part)


def _here(spark, parts, read, schema, what):
    return sorted(user for part in parts for batch in read(part, arrow_schema(schema)) for user in batch[0].to_pylist())


def files(table):
    return [task.file.file_path for task in table.scan().plan_files()]


def test_position_deletes_and_evolved_partitions_and_columns_give_the_right_rows(table, tmp_path, spark):
    from pyiceberg.transforms import DayTransform
    from pyiceberg.types import LongType, StringType

    delete_rows(table, [(files(table)[0], 1)])
    with table.update_spec() as spec:
        spec.add_field("at", DayTransform(), "day")
    table.append(rows_of("d", day=2))
    with table.update_schema() as schema:
        schema.update_column("n", LongType()).rename_column("n", "count").add_column("of", StringType())
    with table.update_spec() as spec:
        spec.remove_field("day").add_identity("user")
    late = rows_of("e", day=3).rename_columns(["user", "count", "at"])
    late = late.set_column(1, "count", pa.array([2**40])).append_column("of", pa.array(["x"]))
    table.append(late)
    expected = [
        {"user": "a", "count": 1, "at": at(1), "of": None},
        {"user": "c", "count": 1, "at": at(1), "of": None},
        {"user": "d", "count": 2, "at": at(2), "of": None},
        {"user": "e", "count": 2**40, "at": at(3), "of": "x"},
    ]
    assert rows(listing().frame(spark)) == [row | {"at": row["at"].replace(tzinfo=None)} for row in expected]
    with patch("recsys_spark.sources.iceberg.rows_of_tasks", lambda *given: given[3].names):
        assert listing().frame(None, wanted=lambda names: ["of", "user"]) == ["user", "of"]
    assert users_here(listing(partitions=["at >= 2024-03-02T00:00:00+00:00", "user != e"])) == ["d"]
    assert listing(partitions=["user = e"]).bytes < listing().bytes / 2
    first = table.metadata.snapshots[0].snapshot_id
    assert listing(version=first).frame(spark).columns == ["user", "n", "at"], "as they were then"
    assert users_here(listing(version=first)) == ["a", "b", "c"]
    path = table.metadata_location.removeprefix(f"file://{tmp_path}/")
    assert users_here(listing(tmp_path, path=path)) == ["a", "c", "d", "e"]


@pytest.mark.parametrize(
    ("kind", "message"), [("equality", "has equality deletes"), ("puffin", r"has deletion vectors \(PUFFIN")]
)
def test_deletes_that_are_not_read_are_refused_by_name_before_anything_is_read(kind, message, table):
    delete_rows(table, [(files(table)[0], 1)], **{kind: True})
    with pytest.raises(InputError, match=f"{message}.*rewrite_data_files"):
        listing().frame(None)


def test_a_night_reads_the_files_that_were_appended_even_if_they_were_compacted_since(table):
    before = listing().entries
    table.append(rows_of("d", day=2))
    table.append(rows_of("e", day=3))
    assert added(before) == ("2 new files", ["d", "e"])
    assert added(before, partitions=["n = 3"]) == ("1 new files", ["e"])
    after = listing().entries
    compact(table)
    assert len(files(table)) == 1
    assert listing().entries == after, "the same rows"
    assert added(after) == ("0 new files", [])
    assert added(before) == ("2 new files", ["d", "e"])
    assert users_here(listing()) == ["a", "b", "c", "d", "e"]


def rename(table, folder):
    with table.update_schema() as schema:
        schema.rename_column("n", "m")


def recreate(table, folder):
    catalog(folder).drop_table("shop.log")
    catalog(folder).create_table("shop.log", schema=rows_of().schema).append(rows_of("a"))


def expire(table, folder):
    first = table.metadata.snapshots[0].snapshot_id
    table.append(rows_of("d"))
    table.append(rows_of("e"))
    table.maintenance.expire_snapshots().by_id(first).commit()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda table, folder: delete_rows(table, [(files(table)[0], 1)]), r"\(delete\) removes or replaces rows"),
        (lambda table, folder: table.overwrite(rows_of("z")), r"\(delete\) removes or replaces rows"),
        (rename, "the columns of the table changed"),
        (recreate, "the table was created again"),
        (expire, "the history of the table no longer has snapshot"),
    ],
)
def test_a_table_whose_new_rows_are_not_certain_is_read_whole_with_the_reason(change, reason, table, tmp_path):
    before = listing().entries
    change(table, tmp_path)
    assert listing().entries != before
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(added(before))


@pytest.mark.parametrize(
    ("more", "kind", "message"),
    [
        ({"table": "shop.absent"}, InputError, f"{CATALOG}.shop.absent does not exist"),
        ({"catalog": "nowhere"}, UsageError, "PYICEBERG_CATALOG__NOWHERE__URI"),
        ({"catalog": "down"}, RetryError, "down.shop.log cannot be reached"),
        ({"version": 7}, InputError, "has no snapshot 7"),
        ({"partitions": ["z = 1"]}, UsageError, "names z"),
        ({"path": "absent.metadata.json"}, InputError, "does not exist"),
    ],
)
def test_what_is_not_there_is_refused_in_words_without_secrets(more, kind, message, table, tmp_path, monkeypatch):
    monkeypatch.setenv("PYICEBERG_CATALOG__DOWN__URI", "http://shop:canary-81b@127.0.0.1:9")
    monkeypatch.setenv("PYICEBERG_CATALOG__DOWN__CREDENTIAL", "client:canary-81b")
    catalog(tmp_path)
    with pytest.raises(kind, match=message) as caught:
        listing(tmp_path, **more)
    assert "canary" not in str(caught.value)


def test_an_empty_table_is_refused(tmp_path):
    catalog(tmp_path).create_table("shop.log", schema=rows_of().schema)
    with pytest.raises(InputError, match="is empty"):
        listing()
