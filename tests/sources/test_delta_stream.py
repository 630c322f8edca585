"""Rows that are appended to a Delta table, by the versions of its log."""

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql.types import StructType

from recsys_spark.errors import InputError
from recsys_spark.sources.delta_stream import DeltaReader


@pytest.fixture
def table(tmp_path):
    return str(tmp_path / "table of clicks")


def append(table, mode="append", day="2024-03-01", **columns):
    rows = pa.table(columns)
    write_deltalake(table, rows.append_column("day", pa.repeat(day, len(rows))), mode=mode, partition_by=["day"],
                    schema_mode="merge" if mode == "append" else None)  # fmt: skip


def reader(table):
    schema = StructType().add("user", "string").add("day", "string").add("n", "long")
    return DeltaReader({"path": table}, schema)


def rows(source, start, end):
    batches = [batch for part in source.partitions(start, end) for batch in source.read(part)]
    return sorted(tuple(row.values()) for batch in batches for row in batch.to_pylist())


def test_each_version_is_read_once_and_the_first_batch_has_the_whole_table(table):
    append(table, user=["a", "b"])
    append(table, user=["c"], n=[1], day="2024-03-02")
    source = reader(table)
    first = source.latestOffset(source.initialOffset())
    assert rows(source, source.initialOffset(), first) == [
        ("a", "2024-03-01", None), ("b", "2024-03-01", None), ("c", "2024-03-02", 1)
    ]  # fmt: skip
    append(table, user=["d"], n=[4])
    second = source.latestOffset(first)
    assert rows(source, first, second) == [("d", "2024-03-01", 4)]
    assert rows(source, second, second) == []


def test_an_optimisation_adds_no_row(table):
    append(table, user=["a"])
    append(table, user=["b"])
    source = reader(table)
    before = source.latestOffset()
    DeltaTable(table).optimize.compact()
    after = source.latestOffset(before)
    assert after["version"] > before["version"]
    assert rows(source, before, after) == []


def test_removed_rows_and_a_log_that_was_cleaned_up_are_errors_that_name_the_version(table, tmp_path):
    append(table, user=["a"])
    source = reader(table)
    first = source.latestOffset()
    append(table, user=["b"], mode="overwrite")
    with pytest.raises(InputError, match="version 1 of .*table of clicks removes or replaces rows"):
        rows(source, first, source.latestOffset(first))
    (tmp_path / "table of clicks" / "_delta_log" / f"{1:020}.json").unlink()
    with pytest.raises(InputError, match="no longer has version 1"):
        rows(source, first, {"version": 1})
    with pytest.raises(InputError, match="no Delta table"):
        reader(str(tmp_path / "nothing")).latestOffset()
