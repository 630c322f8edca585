"""Messages of Kafka by ranges of offsets, read from the mock cluster of librdkafka, which speaks its protocol."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.errors import InputError, RetryError, UsageError
from recsys_spark.sources import kafka_stream
from recsys_spark.sources.kafka_stream import KafkaReader, within

confluent_kafka = pytest.importorskip("confluent_kafka", reason="pip install 'recsys-spark[kafka]'")


@pytest.fixture(scope="module")
def brokers():
    """(producer, bootstrap.servers) of a cluster in this process."""
    quiet = {"log_level": 0, "bootstrap.servers": "mock:1", "test.mock.num.brokers": 2}
    producer = confluent_kafka.Producer(quiet)
    found = producer.list_topics(timeout=10).brokers.values()
    yield producer, ",".join(f"{broker.host}:{broker.port}" for broker in found)
    producer.flush()


def reader(servers, topics, **more):
    return KafkaReader({"bootstrap.servers": servers, kafka_stream.TOPICS: topics} | more)


def send(producer, topic, *values, partition=0):
    for value in values:
        producer.produce(topic, value, partition=partition)
    producer.flush()


def messages(source, start, end):
    return [value for part in source.partitions(start, end) for (value,) in source.read(part)]


def test_every_message_is_read_once_in_ranges_of_offsets(brokers):
    producer, servers = brokers
    send(producer, "a", *(f"{n}" for n in range(5)))
    send(producer, "b", "x", None, b"\xff", partition=2)
    source = reader(servers, "a, b")
    start = source.initialOffset()
    assert set(start.values()) == {0}
    end = source.latestOffset(start)
    assert messages(source, start, end) == ["0", "1", "2", "3", "4", "x", None, "\ufffd"]
    middle = dict(end, **{"a/0": 3})
    assert messages(source, start, middle)[:3] == ["0", "1", "2"]
    assert messages(source, middle, end) == ["3", "4"]
    assert source.partitions(end, end) == []


def test_a_batch_has_at_most_the_largest_number_of_messages(brokers):
    from pyspark.sql.streaming.datasource import ReadAllAvailable, ReadMaxRows

    producer, servers = brokers
    send(producer, "c", *"0123456789")
    source = reader(servers, "c", **{kafka_stream.MAX_ROWS: "4"})
    assert source.getDefaultReadLimit() == ReadMaxRows(4)
    position, read = source.initialOffset(), []
    while (end := source.latestOffset(position, ReadMaxRows(4))) != position:
        read.append(messages(source, position, end))
        position = end
    assert read == [list("0123"), list("4567"), list("89")]
    assert source.latestOffset(source.initialOffset(), ReadAllAvailable())["c/0"] == 10


@given(
    marks=st.dictionaries(st.text("ab", max_size=3), st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=4),
    rows=st.none() | st.integers(0, 8),
)
def test_positions_move_by_at_most_the_rows_of_a_batch(marks, rows):
    start, end = {n: a for n, (a, _) in marks.items()}, {n: a + b for n, (a, b) in marks.items()}
    moved = {name: position - start[name] for name, position in within(start, end, rows).items()}
    assert all(0 <= step <= end[name] - start[name] for name, step in moved.items())
    wanted = sum(b for _, b in marks.values())
    assert sum(moved.values()) == (wanted if rows is None else min(rows, wanted))


def test_messages_that_were_removed_before_they_were_read_are_an_error_that_names_them(brokers, monkeypatch):
    source = reader(brokers[1], "a")
    monkeypatch.setattr(source, "_watermarks", lambda: {"a/0": (7, 9)})
    with pytest.raises(InputError, match="a/0: 3 to 6"):
        source.latestOffset({"a/0": 3})


def test_faults_have_an_error_for_people(brokers, monkeypatch):
    monkeypatch.setattr(kafka_stream, "_SECONDS", 0.2)
    with pytest.raises(RetryError, match="Kafka does not answer"):
        reader("127.0.0.1:1", "a", log_level="0").initialOffset()
    with pytest.raises(UsageError, match=r"\$NO_SUCH, which is not set"):
        reader(brokers[1], "a", **{"sasl.password": "$NO_SUCH"}).initialOffset()
