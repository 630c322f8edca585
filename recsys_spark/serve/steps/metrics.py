"""Metrics of the service in the text format of Prometheus."""

from contextlib import AbstractContextManager

from recsys_spark.serve.steps.list_sources import ListSource

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Upper bounds of latencies, in seconds."""


class ServiceMetrics:
    """Counters of one service, in a registry of its own."""

    def __init__(self, source: ListSource) -> None:
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram

        self._source, self._registry, self.media_type = source, CollectorRegistry(), CONTENT_TYPE_LATEST
        registry = self._registry
        self._seconds = Histogram(
            "recsys_request_seconds", "Time to an answer.", ["route"], buckets=_BUCKETS, registry=registry
        )
        self._requests = Counter(
            "recsys_requests", "Answers by route and status.", ["route", "status"], registry=registry
        )
        self._version = Gauge(
            "recsys_served_version", "Version of a table that is served.", ["table"], registry=registry
        )
        self.failed_reloads = Counter(
            "recsys_failed_reloads", "Versions that could not be taken up.", registry=registry
        )

    def seconds(self, route: str) -> AbstractContextManager[object]:
        """Measure the time of a block."""
        timer: AbstractContextManager[object] = self._seconds.labels(route).time()
        return timer

    def count(self, route: str, status: int) -> None:
        """Count an answer."""
        self._requests.labels(route, str(status)).inc()

    def text(self) -> bytes:
        """The metrics as Prometheus reads them."""
        from prometheus_client import generate_latest

        for table, version in self._source.versions.items():
            self._version.labels(table).set(version.version)
        return generate_latest(self._registry)
