"""Events of a stream become rows of ``events``, once, beside those of the log."""

from datetime import UTC, datetime, timedelta

import pytest

from recsys_spark.tables.schemas import EVENTS, QUARANTINE, STREAMED_EVENTS, USERS
from tests.bench.event_files import FIRST, Shop
from tests.bench.stored_rows import commit_rows


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


def stream(lake, number, *events):
    """Commit (user, item, day, value) as a batch of a stream."""
    rows = [
        (u, i, "view", datetime.fromisoformat(f"{d} 10:00").replace(tzinfo=UTC), v, number) for u, i, d, v in events
    ]
    commit_rows(lake, STREAMED_EVENTS, rows, "stream", append=True)


def events_of(spark, lake):
    rows = lake.read(spark, EVENTS).collect()
    return sorted((row["user_id"], row["item_id"], str(row["timestamp"])[:10], row["value"] or 0) for row in rows)


def test_streamed_events_are_taken_over_once_by_whole_and_by_incremental_readings(shop, spark):
    lake = shop.lake()
    shop.log("1.csv", "u1,a1,2024-02-01,2", "u2,a1,2024-02-01,4")
    shop.ingest(lake)
    stream(lake, 0, ("u1", "a1", "2024-02-01", 1.0), ("u9", "a2", "2024-03-01", None), ("u9", "a2", "2024-03-01", None))
    report = shop.ingest(lake, FIRST + timedelta(days=1))
    assert (report["log_read"], report["events_changes"]["added"]) == ("0 new files", 1)
    assert report["tables"] == {"quarantine": 0, "items": 2, "users": 3, "events": 3, "user_rules": 0}
    assert lake.last_commit(EVENTS).provenance.streamed == lake.last_commit(STREAMED_EVENTS).version == 0
    assert shop.ingest(lake, FIRST + timedelta(days=1))["status"] == "unchanged"
    stream(lake, 1, ("u2", "a1", "2024-02-01", 5.0), ("u8", "a1", "2024-03-01", 1.0))  # one replaces a stored row
    shop.log("2.csv", "u8,a1,2024-03-01,3")  # of which the log has another value
    report = shop.ingest(lake, FIRST + timedelta(days=2))
    assert report["log_read"] == "all: new files replace stored events"
    rows = [("u1", "a1", "2024-02-01", 2), ("u2", "a1", "2024-02-01", 5), ("u8", "a1", "2024-03-01", 3)]
    assert events_of(spark, lake) == [*rows, ("u9", "a2", "2024-03-01", 0)]
    stream(lake, 2, ("u7", "a2", "2024-03-02", None))
    assert shop.ingest(lake, FIRST + timedelta(days=2))["log_read"] == "0 new files"
    incremental = events_of(spark, lake)
    shop.ingest(lake, FIRST + timedelta(days=2), force=True)
    assert events_of(spark, lake) == incremental
    assert {row["user_id"] for row in lake.read(spark, USERS).collect()} == {"u1", "u2", "u7", "u8", "u9"}
    assert lake.rows(QUARANTINE) == 0, "a row of the log that a greater value replaces is not bad"
