"""OpenTelemetry spans of a job and its steps, if the environment names where they go (``OTEL_EXPORTER_OTLP_ENDPOINT``,
``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``).

Off by default: without such a variable nothing is imported. Spans that cannot be sent are a warning.
"""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

_SWITCHES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_SECONDS = "10"
"""Within which the spans must be sent, if the environment does not say otherwise."""

Step = tuple[str, int, int]
"""Title, start and end of a step, nanoseconds since 1970."""


def wants_spans() -> bool:
    """Whether the environment asks for spans."""
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none"
    return not off and any(os.environ.get(name) for name in _SWITCHES)


def send_spans(report: Mapping[str, Any], steps: Sequence[Step], started: int) -> None:
    """Send a span of the job, child of ``TRACEPARENT`` if a scheduler set it, and one of each step.

    Args:
        report: the last line of the job.
        steps: finished steps.
        started: of the job, nanoseconds since 1970.

    Raises:
        ImportError: the extra ``telemetry`` is not installed.
        OSError: the collector did not take the spans.
    """
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.exporter") is None:
        raise ImportError("OTEL_… is set, but OpenTelemetry is not installed: pip install 'recsys-spark[telemetry]'")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    os.environ.setdefault("OTEL_EXPORTER_OTLP_TIMEOUT", _SECONDS)
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)  # its lines name the address as it was given
    exporter = OTLPSpanExporter()
    try:
        if exporter.export(_spans(report, steps, started)) is not SpanExportResult.SUCCESS:
            raise OSError("the collector did not take the spans")
    finally:
        exporter.shutdown()


def _spans(report: Mapping[str, Any], steps: Sequence[Step], started: int) -> Sequence[Any]:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.trace import Status, StatusCode, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    made = InMemorySpanExporter()
    name = os.environ.get("OTEL_SERVICE_NAME") or "recsys-spark"
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(SimpleSpanProcessor(made))
    tracer = provider.get_tracer("recsys_spark")
    parent = TraceContextTextMapPropagator().extract({"traceparent": os.environ.get("TRACEPARENT", "")})
    job = tracer.start_span(report["job"], parent, start_time=started, attributes=_attributes(report))
    parts = [step for step in steps if step[0] != report["job"]]  # a job of one step is that step
    for title, start, end in parts:
        tracer.start_span(title, set_span_in_context(job), start_time=start).end(end)
    if report["status"] == "failed":
        job.set_status(Status(StatusCode.ERROR, str(report.get("error"))))
    job.end(time.time_ns())
    return made.get_finished_spans()


def _attributes(report: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers and words of the report, and the rows of its tables."""
    flat = {**report, **{f"tables.{name}": rows for name, rows in (report.get("tables") or {}).items()}}
    return {f"recsys.{name}": value for name, value in flat.items() if isinstance(value, str | int | float)}
