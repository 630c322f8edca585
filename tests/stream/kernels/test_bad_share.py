"""Bad rows of a stream: a row or two stop nothing, a source that breaks stops it in batches of any size."""

import pytest

from recsys_spark.stream.kernels.bad_share import BadShare


@pytest.mark.parametrize("rows", [1, 7, 30])
def test_a_source_that_breaks_stops_the_stream_whatever_the_size_of_batches(rows):
    share, committed = BadShare(0.5), 0
    for _ in range(3_000 // rows):
        assert share.excess(rows, 0) is None
        share.add(rows, 0)
    while share.excess(rows, rows) is None:
        share.add(rows, rows)
        committed += rows
    assert 500 <= committed <= 1_100


def test_fewer_than_20_bad_rows_never_stop_it_and_a_share_of_1_never_does():
    assert BadShare(0).excess(19, 19) is None
    assert BadShare(0).excess(20, 20) == (20, 20)
    assert BadShare(1).excess(5_000, 5_000) is None


def test_good_rows_long_ago_do_not_count():
    share = BadShare(0.5)
    share.add(1_000_000, 0)
    share.add(1_000, 0)
    assert share.excess(1_100, 1_100) == (1_100, 2_100)
