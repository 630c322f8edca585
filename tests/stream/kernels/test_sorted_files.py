"""Rows of some users, from the row groups that may hold them."""

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.stream.kernels.sorted_files import groups_with, rows_of_users

SCHEMA = pa.schema({"user_id": pa.string(), "n": pa.int64()})

_IDS = st.text("abzé\U0001f600\uffff", max_size=3)


@given(
    ids=st.lists(_IDS, min_size=1, max_size=30), wanted=st.sets(_IDS), group=st.integers(1, 5), is_sorted=st.booleans()
)
def test_a_look_up_finds_the_rows_of_its_users(tmp_path_factory, ids, wanted, group, is_sorted):
    ids = sorted(ids) if is_sorted else ids
    path = str(tmp_path_factory.mktemp("rows") / "file.parquet")
    pq.write_table(pa.table([ids, range(len(ids))], schema=SCHEMA), path, row_group_size=group)
    found = [row for batch in rows_of_users(path, sorted(wanted), SCHEMA) for row in batch["n"].to_pylist()]
    assert found == [n for n, id in enumerate(ids) if id in wanted]


def test_row_groups_without_a_wanted_user_are_not_read(tmp_path):
    path = str(tmp_path / "file.parquet")
    pq.write_table(pa.table([[f"u{n:02}" for n in range(20)], range(20)], schema=SCHEMA), path, row_group_size=5)
    assert groups_with(pq.read_metadata(path), ["u00", "u12", "u99"]) == [0, 2]
    pq.write_table(pa.table([["b", "a"], [0, 1]], schema=SCHEMA), path, row_group_size=1, write_statistics=False)
    assert groups_with(pq.read_metadata(path), ["c"]) == [0, 1]
