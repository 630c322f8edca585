"""Fixtures of the tests of whole lakes."""

from tests.bench.object_store import store  # noqa: F401
