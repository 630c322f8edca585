"""Fixtures of the tests that inject faults."""

from tests.bench.object_store import store  # noqa: F401
