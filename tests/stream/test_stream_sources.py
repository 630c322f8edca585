"""What arrives by Kafka and in a Delta table reaches the lists as files do."""

import json

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from recsys_spark.tables.schemas import STREAMED_EVENTS, STREAMED_QUARANTINE
from tests.bench.streams import StreamedWorld


@pytest.fixture
def world(spark, tmp_path):
    world = StreamedWorld(spark, tmp_path)
    world.commit_sources()
    world.refresh()
    return world


def streamed(world):
    return {(row["user_id"], row["item_id"]) for row in world.lake.read(world.spark, STREAMED_EVENTS).collect()}


def test_messages_of_kafka_become_lists_in_batches_and_a_message_that_is_no_json_is_refused(world):
    kafka = pytest.importorskip("confluent_kafka", reason="pip install 'recsys-spark[kafka]'")
    producer = kafka.Producer({"log_level": 0, "bootstrap.servers": "mock:1", "test.mock.num.brokers": 1})
    broker = next(iter(producer.list_topics(timeout=10).brokers.values()))
    for user in range(3):
        event = {"user": f"u{user}", "sku": "i6", "what": "view", "at": "2024-03-01 12:00:00"}
        producer.produce("clicks", json.dumps(event), partition=user)
    producer.produce("clicks", "no json", partition=0)
    producer.flush()
    options = f'options = {{ "bootstrap.servers" = "{broker.host}:{broker.port}" }}\nformat = "kafka"\npath = "clicks"'
    world.dataset.write_text(world.dataset.read_text().replace('path = "arriving"', options))
    report = world.stream(max_messages=2)
    assert (report["events"], report["bad_rows"], report["lists_made"]) == (3, 1, 3)
    assert streamed(world) == {("u0", "i6"), ("u1", "i6"), ("u2", "i6")}
    assert [row["reason"] for row in world.lake.read(world.spark, STREAMED_QUARANTINE).collect()] == [
        "malformed record"
    ]
    assert world.stream()["status"] == "unchanged"


@pytest.mark.slow
def test_rows_that_are_appended_to_a_delta_table_become_lists(world):
    text = world.dataset.read_text().replace('path = "arriving"', 'path = "arriving"\nformat = "delta"')
    world.dataset.write_text(text)
    for item in ("i6", "i7"):
        rows = {"user": ["u1"], "sku": [item], "what": ["view"], "at": ["2024-03-01 12:00:00"]}
        write_deltalake(str(world.data / "arriving"), pa.table(rows), mode="append")
        assert world.stream()["lists_made"] == 1
    assert streamed(world) == {("u1", "i6"), ("u1", "i7")}
