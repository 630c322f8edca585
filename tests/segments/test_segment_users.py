"""Segments as ``segment_users`` publishes them."""

import numpy as np
import pytest

from recsys_spark.errors import InputError, QualityError
from recsys_spark.privacy.options import ForgetOptions
from recsys_spark.privacy.steps.forget_users import forget_users
from recsys_spark.segments.options import SegmentOptions
from recsys_spark.segments.steps.segment_users import segment_users
from recsys_spark.tables.schemas import ITEMS, SEGMENTS, USER_SEGMENTS
from tests.bench.small_lake import DAY, Bench

KEYS = {"min_segment_users": 4, "max_segments": 4, "refits": 3, "stability": 0.98}


def profiles(shift=0.0, users=30):
    """Three groups of users in three directions."""
    random = np.random.default_rng(7)
    return {
        f"u{n:02}": [float(v) for v in np.eye(4)[n % 3] + shift * np.eye(4)[3] + random.normal(0, 0.02, 4)]
        for n in range(users)
    }


@pytest.fixture
def lake(spark, tmp_path):
    bench = Bench(spark, tmp_path)
    bench.put_profiles(users=profiles())
    kinds = ("Tea", "Tools", "Toys")
    bench.put(ITEMS, *((f"i{n}", f"Title {n}", None, None, [kinds[n % 3]]) for n in range(6)))
    bench.put_events(*((f"u{n:02}", f"i{n % 3}", "purchase") for n in range(30)), ("u00", "i4", "purchase"))
    return bench


def segments_of(bench):
    rows = bench.lake.read(bench.spark, USER_SEGMENTS).collect()
    return {row["user_id"]: row["segment"] for row in rows}


def made(bench, **more):
    return segment_users(bench.run, SegmentOptions(lake=bench.lake.uri, run_date=DAY, **KEYS | more))


def test_segments_are_found_named_and_keep_their_ids(spark, lake):
    report = made(lake)
    first = segments_of(lake)
    assert report["clusters"] == 3
    assert report["stable"]
    assert report["stability"]["3"] == 1
    groups = [{first[f"u{n:02}"] for n in range(30) if n % 3 == group} for group in range(3)]
    assert [len(one) for one in groups] == [1, 1, 1]
    assert set().union(*groups) == {1, 2, 3}
    named = {row["segment"]: row for row in lake.lake.read(spark, SEGMENTS).collect()}
    assert named[first["u00"]]["categories"] == ["Tea"]
    assert named[first["u01"]]["name"] == "Tools, Title 1"
    assert named[first["u00"]]["items"] == ["Title 0"], "an item of one user names nobody's segment"
    assert sum(row["users"] for row in named.values()) == 30
    assert made(lake)["status"] == "unchanged"
    lake.put_profiles(users={name: [v[1], v[2], v[0], v[3]] for name, v in profiles(0.1).items()})
    assert made(lake, segment_seed=5)["status"] == "done"
    assert segments_of(lake) == first, "other directions and another seed, the same users: the same ids"


def test_small_segments_are_merged(lake):
    users = profiles()
    users |= {f"v{n}": [0.0, 0.0, 0.0, 1.0 + n / 50] for n in range(3)}
    lake.put_profiles(users=users)
    report = made(lake, segments=4)
    assert report["clusters"] == 4
    assert min(one["users"] for one in report["segments"].values()) >= 4
    assert set(segments_of(lake)) == set(users)


def test_too_little_for_segments_is_said(spark, tmp_path, lake):
    with pytest.raises(InputError, match="has 30 users, and two segments of at least min_segment_users=20 need 40"):
        made(lake, min_segment_users=20)
    empty = Bench(spark, tmp_path / "empty")
    with pytest.raises(InputError, match="has no table user_profiles"):
        made(empty)
    lake.put_profiles(users={"one": [1.0, 0.0, 0.0, 0.0]})
    with pytest.raises(InputError, match="has 1 users"):
        made(lake)
    lake.put_profiles(users={f"u{n}": [1.0, 0.0, 0.0, 0.0] for n in range(9)})
    with pytest.raises(QualityError, match="only one segment has at least min_segment_users=4 of the 9 users"):
        made(lake)
    assert lake.lake.version(SEGMENTS) is None
    assert lake.lake.version(USER_SEGMENTS) is None


def test_a_forgotten_user_has_no_segment(lake):
    made(lake)
    forget_users(lake.run, ForgetOptions(lake=lake.lake.uri, user_ids="u00"))
    assert "u00" not in segments_of(lake)
    assert len(segments_of(lake)) == 29
