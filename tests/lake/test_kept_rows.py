"""Rows that stand are written anew without those that go, whatever files they lie in."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.lake.kept_rows import files_without, kept_rows
from recsys_spark.lake.lake import Lake
from recsys_spark.tables.schemas import USERS


@pytest.fixture(scope="module")
def stored(spark, tmp_path_factory):
    """Users in several files of several row groups."""
    lake = Lake(str(tmp_path_factory.mktemp("lake with a space")))
    ids = [(f"u{n:02}", f"text {n}", None, "de", None) for n in range(40)]
    rows = spark.createDataFrame(ids, USERS.ddl).repartition(3, "user_id")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recsys_spark.lake.data_files.ROW_GROUP_ROWS", 4)
        lake.commit(lake.stage(rows, USERS), "run")
    return lake


@settings(max_examples=max(8, settings.default.max_examples // 50))
@given(gone=st.sets(st.integers(0, 45)), tasks=st.integers(1, 4))
def test_what_stands_is_all_but_what_goes(gone, tasks, stored, spark):
    files = spark.createDataFrame([(u,) for u in stored.file_uris(USERS, 0)], "uri string")
    going = spark.createDataFrame([(f"u{n:02}",) for n in gone], "user_id string")
    parts = files_without(files, going, "user_id").repartition(tasks)
    make = kept_rows(USERS.arrow_schema, {"locale": pa.scalar("fr")})
    found = parts.mapInArrow(lambda batches: make(batches, {}), USERS.ddl).collect()
    wanted = sorted(f"u{n:02}" for n in set(range(40)) - gone)
    assert sorted(row["user_id"] for row in found) == wanted
    assert all(row["text"] == f"text {int(row['user_id'][1:])}" and row["locale"] == "fr" for row in found)


def test_rows_keep_their_order(stored, spark):
    [uri, *_] = stored.file_uris(USERS, 0)
    files = spark.createDataFrame([(uri,)], "uri string")
    was = [row["user_id"] for row in stored.read_files(spark, USERS, [uri]).collect()]
    going = spark.createDataFrame([(was[1],), (was[5],)], "user_id string")
    make = kept_rows(USERS.arrow_schema, {})
    found = files_without(files, going, "user_id").mapInArrow(lambda batches: make(batches, {}), USERS.ddl).collect()
    assert [row["user_id"] for row in found] == [was[0], *was[2:5], *was[6:]]
