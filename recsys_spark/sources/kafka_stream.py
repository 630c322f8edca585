"""Kafka as a streaming source of Spark without a connector: tasks read ranges of offsets by confluent-kafka."""

import os
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition
from pyspark.sql.types import StructType

from recsys_spark.errors import InputError, RetryError, UsageError

if TYPE_CHECKING:
    from confluent_kafka import Consumer

FORMAT = "recsys_kafka"

TOPICS, MAX_ROWS = "recsys.topics", "recsys.max_rows"
"""Options besides those of the Kafka client: topics, separated by commas; largest number of messages of a batch."""

_SECONDS = 30.0
"""Longest wait for an answer of the brokers."""

_AT_ONCE = 10_000


@dataclass
class OffsetRange(InputPartition):
    """The messages of one partition of a topic from ``start`` to before ``end``."""

    topic: str
    partition: int
    start: int
    end: int

    @property
    def name(self) -> str:
        return f"{self.topic}/{self.partition}"


class KafkaSource(DataSource):
    """Streaming source: one column ``value``, the message as a text; null for a message without a value."""

    @classmethod
    def name(cls) -> str:
        return FORMAT

    def schema(self) -> str:
        return "value string"

    def streamReader(self, schema: StructType) -> DataSourceStreamReader:  # noqa: N802  (the name that Spark calls)
        return KafkaReader(self.options)


class KafkaReader(DataSourceStreamReader):
    """Positions are offsets by ``topic/partition``; they live in Spark's checkpoint, not in a consumer group."""

    def __init__(self, options: MutableMapping[str, str]) -> None:
        self._settings = dict(options)

    def initialOffset(self) -> dict[str, int]:  # noqa: N802
        """The oldest message of every partition."""
        return {name: low for name, (low, _) in self._watermarks().items()}

    def latestOffset(self, start: dict[str, int] | None = None, limit: Any = None) -> dict[str, int]:  # noqa: N802
        """The newest messages, or fewer where ``limit`` has a maximum number of rows.

        Raises:
            InputError: messages after ``start`` were removed before they were read.
        """
        marks, start = self._watermarks(), start or {}
        begins = {name: start.get(name, low) for name, (low, _) in marks.items()}
        if lost := [f"{name}: {begins[name]} to {low - 1}" for name, (low, _) in marks.items() if begins[name] < low]:
            raise InputError(
                f"Kafka has removed messages that were not read yet, by offset: {', '.join(lost)}. Start with a new "
                "--checkpoint, which reads what is left; lengthen the retention of the topic"
            )
        return within(begins, {name: high for name, (_, high) in marks.items()}, getattr(limit, "max_rows", None))

    def getDefaultReadLimit(self) -> Any:  # noqa: N802
        """The largest number of messages of a batch; Spark asks for it from 4.2."""
        from pyspark.sql.streaming.datasource import ReadMaxRows

        return ReadMaxRows(int(self._settings.get(MAX_ROWS, 1_000_000)))

    def partitions(self, start: dict[str, int], end: dict[str, int]) -> Sequence[OffsetRange]:
        """One task for each partition with messages."""
        ranges = []
        for name, last in sorted(end.items()):
            topic, _, partition = name.rpartition("/")
            if (first := start.get(name, 0)) < last:
                ranges.append(OffsetRange(topic, int(partition), first, last))
        return ranges

    def read(self, partition: InputPartition) -> Iterator[tuple[str | None]]:
        """The messages of a range, in a task."""
        from confluent_kafka import TopicPartition

        assert isinstance(partition, OffsetRange)
        with _consumer(self._settings) as consumer:
            consumer.assign([TopicPartition(partition.topic, partition.partition, partition.start)])
            position = partition.start
            while position < partition.end:
                messages = consumer.consume(min(_AT_ONCE, partition.end - position), _SECONDS)
                if not messages:
                    raise RetryError(f"Kafka gave no message of {partition.name} in {_SECONDS:.0f} s")
                for message in messages:
                    if (fault := message.error()) is not None:
                        raise RetryError(f"Kafka, {partition.name}: {fault.str()}")
                    position = int(message.offset() or 0) + 1
                    if position <= partition.end:
                        value = message.value()
                        yield (None if value is None else value.decode("utf-8", "replace"),)

    def _watermarks(self) -> dict[str, tuple[int, int]]:
        """(oldest offset, offset after the newest) by ``topic/partition``."""
        from confluent_kafka import KafkaException, TopicPartition

        marks = {}
        with _consumer(self._settings) as consumer:
            try:
                for topic in map(str.strip, self._settings[TOPICS].split(",")):
                    found = consumer.list_topics(topic, timeout=_SECONDS).topics[topic]
                    if found.error is not None:
                        raise InputError(f"Kafka topic '{topic}': {found.error.str()}")
                    for number in found.partitions:
                        at = TopicPartition(topic, number)
                        marks[f"{topic}/{number}"] = consumer.get_watermark_offsets(at, timeout=_SECONDS)
            except KafkaException as error:
                raise RetryError(f"Kafka does not answer: {error.args[0].str()}") from error
        return marks


def within(start: Mapping[str, int], end: Mapping[str, int], rows: int | None) -> dict[str, int]:
    """Positions from ``start`` towards ``end`` that are at most ``rows`` messages away, in the order of the names."""
    left, positions = rows, dict[str, int]()
    for name in sorted(end):
        step = end[name] - start[name] if left is None else min(end[name] - start[name], left)
        positions[name] = start[name] + step
        left = None if left is None else left - step
    return positions


@contextmanager
def _consumer(settings: Mapping[str, str]) -> Iterator["Consumer"]:
    try:
        from confluent_kafka import Consumer
    except ImportError as error:
        raise UsageError("[stream]: format = \"kafka\" needs a package: pip install 'recsys-spark[kafka]'") from error
    client = {name: _value(value) for name, value in settings.items() if name not in (TOPICS, MAX_ROWS, "path")}
    consumer = Consumer(
        {"group.id": "recsys-spark", "auto.offset.reset": "error", "enable.partition.eof": False}
        | client
        | {"enable.auto.commit": False}
    )
    try:
        yield consumer
    finally:
        consumer.close()


def _value(value: str) -> str:
    """The value of an option; ``$NAME`` is read from the environment, so that no plan holds a password.

    Raises:
        UsageError: the variable is not set.
    """
    if not value.startswith("$"):
        return value
    if value[1:] not in os.environ:
        raise UsageError(f"[stream]: options name the environment variable {value}, which is not set")
    return os.environ[value[1:]]
