"""Delta tables: a feature is read as the protocol says or refused by its name; a night reads what was added."""

from datetime import date
from unittest.mock import patch

import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from pyspark.errors import PySparkException

from recsys_spark.errors import InputError, UsageError
from recsys_spark.errors.messages import to_user_error
from recsys_spark.sources.arrow_types import arrow_schema
from recsys_spark.sources.dataset_file import Source
from recsys_spark.sources.delta import delta_listing
from tests.bench.delta_tables import DeltaLog, inline, mapped
from tests.bench.object_store import bucket, environment, store  # noqa: F401

DAY = "`the day` >= 2024-03-01"


def listing(folder, **more):
    return delta_listing("log", Source(path="log", format="delta", **more), str(folder))


def rows(frame):
    return sorted((row.asDict(recursive=True) for row in frame.collect()), key=str)


def oracle(folder):
    """The rows as DataFusion reads them through delta-rs."""
    table = QueryBuilder().register("t", DeltaTable(str(folder))).execute("SELECT * FROM t")
    return sorted(pa.RecordBatchReader.from_stream(table).read_all().to_pylist(), key=str)


# --- features ---


def columns(**more):
    brand = {"type": "struct", "fields": [
        {"name": "brand", "type": "string", "nullable": True, "metadata": mapped(5, "c-5")}]}  # fmt: skip
    return [("user", "string", mapped(1, "c-1")), ("the day", "date", mapped(2, "c-2")),
            ("count", "long", mapped(3, "c-3")), ("of", brand, mapped(4, "c-4"))]  # fmt: skip


def test_deletion_vectors_mapped_columns_and_partitions_give_the_right_rows(tmp_path, spark):
    log = DeltaLog(tmp_path / "log", columns(), ["the day"], ["deletionVectors", "columnMapping"],
                   delta_columnMapping_mode="name", delta_enableDeletionVectors="true")  # fmt: skip
    brands = pa.array([{"c-5": "ada"}, {"c-5": None}, None])
    first = pa.table({"c-1": ["a", "b", "c"], "c-3": pa.array([1, 2, 3], pa.int32()), "c-4": brands})
    log.commit(
        log.file(first, "x y/%f.parquet", {"c-2": "2024-03-01"}, deletionVector=log.vector(1)),
        log.file(pa.table({"c-1": ["d", "e"]}), "g.parquet", {"c-2": None}, deletionVector=inline(0)),
        log.file(pa.table({"c-1": ["f"]}), "day=2024-02-01/h.parquet", {"c-2": "2024-02-01"}),
    )
    expected = [
        {"user": "a", "the day": date(2024, 3, 1), "count": 1, "of": {"brand": "ada"}},
        {"user": "c", "the day": date(2024, 3, 1), "count": 3, "of": None},
        {"user": "e", "the day": None, "count": None, "of": None},
        {"user": "f", "the day": date(2024, 2, 1), "count": None, "of": None},
    ]
    assert rows(listing(tmp_path).frame(spark)) == expected == oracle(tmp_path / "log")
    found = listing(tmp_path, partitions=[DAY]).frame(spark, wanted=lambda names: ["the day", "user"])
    assert rows(found) == [{"user": user, "the day": date(2024, 3, 1)} for user in "ac"], "null fulfils no condition"


def test_columns_mapped_by_id_are_found_by_the_ids_in_the_files(tmp_path, spark):
    log = DeltaLog(tmp_path / "log", columns(), [], ["columnMapping"], delta_columnMapping_mode="id")
    fields = [("anything", 3, pa.int64()), ("count", 1, pa.string())]
    schema = pa.schema([pa.field(name, kind, metadata={"PARQUET:field_id": str(n)}) for name, n, kind in fields])
    log.commit(log.file(pa.table([[7], ["a"]], schema=schema), "f.parquet"))
    assert rows(listing(tmp_path).frame(spark)) == [{"user": "a", "the day": None, "count": 7, "of": None}]


def test_a_file_that_is_no_longer_there_is_named(tmp_path, spark):
    log = DeltaLog(tmp_path / "log", columns(), [], ["columnMapping"], delta_columnMapping_mode="name")
    log.commit(log.file(pa.table({"c-1": ["a"]}), "f.parquet"))
    frame = listing(tmp_path).frame(spark)
    (tmp_path / "log" / "f.parquet").unlink()
    with pytest.raises(PySparkException) as caught:
        frame.collect()
    assert isinstance(error := to_user_error(caught.value), InputError)
    assert "source 'log': " in str(error)
    assert "f.parquet" in str(error)


@pytest.mark.parametrize("feature", ["variantType", "somethingNew"])
def test_a_feature_that_is_not_read_rightly_is_refused_by_its_name_before_anything_is_read(feature, tmp_path):
    log = DeltaLog(tmp_path / "log", [("user", "string", {})], [], [feature])
    log.commit(log.file(pa.table({"user": ["a"]}), "f.parquet"))
    with pytest.raises(InputError, match=f"{feature}.* not supported"):
        listing(tmp_path)


def test_a_version_and_conditions_on_partitions(tmp_path, spark):
    for day, user in ((1, "a"), (2, "b"), (10, "c")):
        table = pa.table({"user": [user], "n": pa.array([day], pa.int32())})
        write_deltalake(tmp_path / "log", table, mode="append", partition_by=["n"])
    read = {key: [row["user"] for row in rows(listing(tmp_path, **more).frame(spark))] for key, more in {
        "newest": {}, "version": {"version": 1}, "number": {"partitions": ["n >= 2"]},
        "both": {"partitions": ["n != 2", "n < '10'"]}}.items()}  # fmt: skip
    assert read == {"newest": ["a", "b", "c"], "version": ["a", "b"], "number": ["b", "c"], "both": ["a"]}
    assert listing(tmp_path, partitions=["n = 2"]).bytes < listing(tmp_path).bytes / 2


@pytest.mark.parametrize(
    ("more", "kind", "message"),
    [
        ({"partitions": ["n > x"]}, UsageError, "compares n, which is int32, with 'x'"),
        ({"partitions": ["user = a"]}, UsageError, r"names user, which is no partition column \(those are: n\)"),
        ({"partitions": ["n in (1)"]}, UsageError, "is no comparison"),
        ({"partitions": ["n = 3"]}, InputError, "is empty where n = 3"),
        ({"version": 9}, InputError, "cannot be read as a Delta table"),
    ],
)
def test_what_is_not_there_is_refused_in_words(more, kind, message, tmp_path):
    write_deltalake(tmp_path / "log", pa.table({"user": ["a"], "n": pa.array([1], pa.int32())}), partition_by=["n"])
    with pytest.raises(kind, match=message):
        listing(tmp_path, **more)


def test_a_table_on_s3_needs_no_connector_and_a_night_reads_what_was_added(store, monkeypatch):  # noqa: F811
    for name, value in environment(store).items():
        monkeypatch.setenv(name, value)
    folder = bucket(store, "shop").removesuffix("/lake")
    table = pa.table({"user": ["a", "b"], "day": ["1", "2 %"]})
    write_deltalake(f"{folder}/log", table, mode="append", partition_by=["day"])
    before = listing(folder.replace("s3://", "s3a://")).entries
    write_deltalake(f"{folder}/log", table, mode="append", partition_by=["day"])
    listed = listing(folder, partitions=["day = 2 %"])
    assert listed.entries != before
    with patch("recsys_spark.sources.delta.rows_of_tasks", rows_here):
        assert listed.frame(None) == [{"user": "b", "day": "2 %"}] * 2
        assert listed.frame(None, listed.added(before)) == [{"user": "b", "day": "2 %"}]


def rows_here(spark, parts, read, schema, what):
    """The rows as tasks read them, read in this process."""
    return [row for part in parts for batch in read(part, arrow_schema(schema)) for row in batch.to_pylist()]


# --- nights ---


def append(folder, *users, day="2024-03-01", **more):
    table = pa.table({"user": users, "day": [day] * len(users)})
    write_deltalake(folder / "log", table, mode="append", partition_by=["day"], **more)


def added(folder, before, spark, **more):
    part = (now := listing(folder, **more)).added(before)
    return part if isinstance(part, str) else (part.words, [row["user"] for row in rows(now.frame(spark, part))])


def test_a_night_reads_the_files_that_were_added_even_if_they_were_compacted_since(tmp_path, spark):
    append(tmp_path, "a", "b")
    before = listing(tmp_path).entries
    append(tmp_path, "c")
    append(tmp_path, "d", day="2024-03-02")
    assert added(tmp_path, before, spark) == ("2 new files", ["c", "d"])
    assert added(tmp_path, before, spark, partitions=["day > 2024-03-01"]) == ("1 new files", ["d"])
    after = listing(tmp_path).entries
    DeltaTable(str(tmp_path / "log")).optimize.compact()
    assert listing(tmp_path).entries == after, "the same rows"
    assert added(tmp_path, after, spark) == ("0 new files", [])
    assert added(tmp_path, before, spark) == ("2 new files", ["c", "d"])
    DeltaTable(str(tmp_path / "log")).vacuum(0, dry_run=False, enforce_retention_duration=False)
    assert listing(tmp_path).entries == after
    assert "compacted and vacuumed" in added(tmp_path, before, spark)
    assert added(tmp_path, after, spark) == ("0 new files", [])


def overwrite(folder):
    write_deltalake(folder / "log", pa.table({"user": ["z"], "day": ["x"]}), mode="overwrite", partition_by=["day"])


def widen(folder):
    wide = pa.table({"user": ["z"], "day": ["x"], "n": [1]})
    write_deltalake(folder / "log", wide, mode="append", schema_mode="merge", partition_by=["day"])


def recreate(folder):
    (folder / "log").rename(folder / "old")
    append(folder, "a")


def clean_log(folder):
    for user in "cd":
        append(folder, user)
    DeltaTable(str(folder / "log")).create_checkpoint()
    (folder / "log" / "_delta_log" / f"{1:020}.json").unlink()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda folder: DeltaTable(str(folder / "log")).delete("user = 'a'"), "version 1 of the table removes or repl"),
        (overwrite, "version 1 of the table removes or replaces rows"),
        (widen, "version 1 of the table changes its columns or settings"),
        (recreate, "the table was created again"),
        (clean_log, "the log of the table no longer has version 1"),
    ],
)
def test_a_table_whose_new_rows_are_not_certain_is_read_whole_with_the_reason(change, reason, tmp_path, spark):
    append(tmp_path, "a", "b")
    before = listing(tmp_path).entries
    change(tmp_path)
    assert listing(tmp_path).entries != before
    assert added(tmp_path, before, spark).startswith(reason)


def test_an_earlier_version_than_that_of_the_last_night_is_read_whole(tmp_path, spark):
    append(tmp_path, "a")
    append(tmp_path, "b")
    before = listing(tmp_path).entries
    assert "is earlier than" in added(tmp_path, before, spark, version=0)
