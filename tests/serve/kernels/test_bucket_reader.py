"""Look-ups in Arrow files against a dict."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.export.kernels.bucket_files import by_bucket, encoded
from recsys_spark.serve.kernels.bucket_reader import BucketFiles, bucket_of

IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(
    documents=st.dictionaries(IDS, st.text(max_size=9), max_size=40), buckets=st.integers(1, 9), cut=st.integers(1, 5)
)
def test_every_id_is_found_in_its_bucket_and_no_other(tmp_path_factory, documents, buckets, cut):
    folder = tmp_path_factory.mktemp("files")
    rows = sorted((bucket_of(name.encode(), buckets), name.encode(), name, documents[name]) for name in documents)
    whole = pa.table({"bucket": [r[0] for r in rows], "id": [r[2] for r in rows], "content": [r[3] for r in rows]})
    whole = whole.cast(pa.schema({"bucket": pa.int32(), "id": pa.string(), "content": pa.string()}))
    names = {}
    for number, table in by_bucket(iter(whole.to_batches(max_chunksize=cut))):
        assert number not in names
        names[number] = f"{number}.arrow"
        (folder / names[number]).write_bytes(encoded(table, "arrow", "user_id"))
    files = BucketFiles(str(folder), names, buckets)
    assert {name: files.value(name).decode() for name in documents} == documents
    for absent in ("", "\0", "zzzzzzzzzz", "\U0010ffff" * 9):
        assert absent in documents or files.value(absent) is None


def test_a_file_that_two_versions_share_stays_mapped(tmp_path):
    for name in ("a", "b"):
        rows = pa.table({"id": [name], "content": [name.upper()]})
        (tmp_path / name).write_bytes(encoded(rows, "arrow", "user_id"))
    first = BucketFiles(str(tmp_path), {0: "a"}, 1)
    (tmp_path / "a").unlink()
    second = BucketFiles(str(tmp_path), {0: "a"}, 1, first)
    assert second.value("a") == b"A"
    third = BucketFiles(str(tmp_path), {0: "b"}, 1, second)
    assert (third.value("a"), third.value("b"), first.value("a")) == (None, b"B", b"A")
