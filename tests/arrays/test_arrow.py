"""Arrow columns to matrices, tables of a given size, and the index of ids."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import functions as F

from recsys_spark.arrays.arrow import matrix, slices
from recsys_spark.arrays.id_index import IdIndex
from recsys_spark.errors import UsageError
from recsys_spark.profiles.profiles import is_usable

NAN, INF = float("nan"), float("inf")
IDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)


@given(st.lists(IDS, max_size=30), st.sets(IDS, min_size=1, max_size=10))
def test_the_index_matches_equal_ids_in_any_order(ids, block):
    block_ids = sorted(block)
    rows, columns = IdIndex(pa.array(ids, pa.string())).matches(pa.array(block_ids, pa.string()))
    expected = [(row, block_ids.index(name)) for row, name in enumerate(ids) if name in block]
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == expected


@given(st.lists(st.integers(0, 6), max_size=8), st.integers(1, 7))
def test_slices_keep_every_row_in_order_and_are_full_but_for_the_last(lengths, rows):
    total = sum(lengths)
    borders = np.cumsum([0, *lengths])
    batches = [
        pa.RecordBatch.from_pydict({"n": list(range(start, stop))}, pa.schema([("n", pa.int64())]))
        for start, stop in zip(borders[:-1], borders[1:], strict=True)
    ]
    parts = [part["n"].to_pylist() for part in slices(iter(batches), rows)]
    assert [n for part in parts for n in part] == list(range(total))
    assert [len(part) for part in parts] == [rows] * (total // rows) + [total % rows] * (total % rows > 0)


def test_a_matrix_is_the_rows_of_a_column_even_of_a_slice():
    column = pa.chunked_array([pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.float32()))])
    assert matrix(column.slice(1)).tolist() == [[3, 4], [5, 6]]


@pytest.mark.parametrize("rows", [[[1, 2], [3]], [[1], [2, 3, 4]], [[1, 2], []]])
def test_vectors_of_several_lengths_are_refused(rows):
    with pytest.raises(UsageError, match="it mixes two models"):
        matrix(pa.chunked_array([pa.array(rows, pa.list_(pa.float32()))]))


def test_a_vector_is_usable_when_it_has_a_direction(spark):
    table = [
        ([1.0, 0.0], True),
        ([-1e-45, 0.0], True),
        ([0.0, -0.0], False),
        ([NAN, 1.0], False),
        ([INF, 1.0], False),
        ([1.0, -INF], False),
        ([None, 1.0], False),
        ([None, 0.0], False),
        ([], False),
        (None, False),
    ]
    frame = spark.createDataFrame(table, "embedding array<float>, expected boolean")
    rows = frame.select("embedding", "expected", is_usable(F.col("embedding")).alias("usable")).collect()
    assert [row["usable"] for row in rows] == [expected for _, expected in table]


def test_slices_are_cut_by_bytes_too_so_that_long_lists_never_overflow():
    lists = pa.array([["x" * 100] * 10] * 40 + [[]] * 60, pa.list_(pa.string()))
    table = pa.table({"user_id": [f"u{n}" for n in range(100)], "seen": lists})
    parts = list(slices(iter(table.to_batches(max_chunksize=5)), 50, most_bytes=20_000))
    assert pa.concat_tables(parts).equals(table.combine_chunks())
    assert len(parts) > 3
    assert all(part.nbytes <= 20_000 and len(part) <= 50 for part in parts)
    assert [len(part) for part in slices(iter(table.to_batches(max_chunksize=5)), 30)] == [30, 30, 30, 10]
