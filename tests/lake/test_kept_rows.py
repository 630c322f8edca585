"""Data files rewritten without removed rows, whatever files these are in."""

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
    ids = [(f"u{n:02}", f"text {n}", None, "de", None, None) for n in range(40)]
    rows = spark.createDataFrame(ids, USERS.ddl).repartition(3, "user_id")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recsys_spark.lake.data_files.ROW_GROUP_ROWS", 4)
        lake.commit(lake.stage(rows, USERS), "run")
    return lake


@settings(max_examples=max(8, settings.default.max_examples // 50))
@given(removed=st.sets(st.integers(0, 45)), tasks=st.integers(1, 4))
def test_exactly_the_removed_rows_are_missing(removed, tasks, stored, spark):
    files = spark.createDataFrame([(u,) for u in stored.file_uris(USERS, 0)], "uri string")
    removed_keys = spark.createDataFrame([(f"u{n:02}",) for n in removed], "user_id string")
    parts = files_without(files, removed_keys, "user_id").repartition(tasks)
    transform = kept_rows(USERS.arrow_schema, {"locale": pa.scalar("fr")})
    rows = parts.mapInArrow(lambda batches: transform(batches, {}), USERS.ddl).collect()
    expected = sorted(f"u{n:02}" for n in set(range(40)) - removed)
    assert sorted(row["user_id"] for row in rows) == expected
    assert all(row["text"] == f"text {int(row['user_id'][1:])}" and row["locale"] == "fr" for row in rows)


def test_rows_keep_their_order(stored, spark):
    [uri, *_] = stored.file_uris(USERS, 0)
    files = spark.createDataFrame([(uri,)], "uri string")
    was = [row["user_id"] for row in stored.read_files(spark, USERS, [uri]).collect()]
    removed = spark.createDataFrame([(was[1],), (was[5],)], "user_id string")
    parts, transform = files_without(files, removed, "user_id"), kept_rows(USERS.arrow_schema, {})
    rows = parts.mapInArrow(lambda batches: transform(batches, {}), USERS.ddl).collect()
    assert [row["user_id"] for row in rows] == [was[0], *was[2:5], *was[6:]]
