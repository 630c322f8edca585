"""Connections to PostgreSQL, and its errors in plain words."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from recsys_spark.errors import InputError, RecsysError, RetryError, UsageError
from recsys_spark.errors.messages import one_line
from recsys_spark.errors.redaction import redacted
from recsys_spark.runtime.servers import Server, check_installed, server

if TYPE_CHECKING:
    from psycopg import Connection

VARIABLE = "RECSYS_POSTGRES_URL"

REQUIREMENT = "psycopg[binary]>=3.1"

_SECONDS = 30
"""Longest wait for a connection."""

_REFUSED = ("28", "42501", "3D000", "0A000", "58P01")
"""SQLSTATEs of errors that do not pass: authorization, privileges, no such database, no such extension."""


def postgres_server(variable: str = VARIABLE, *, name: str) -> Server:
    """The server whose address is in the environment variable ``variable``. ``name``: what needs it, for messages.

    Raises:
        UsageError: psycopg is not installed, or there is no address.
    """
    check_installed("psycopg", REQUIREMENT, name=name)
    return server(variable, ("postgresql", "postgres"), name=name)


@contextmanager
def connected(address: Server) -> "Iterator[Connection[Any]]":
    """A connection; what it did is committed at the end, or rolled back by an error.

    Raises:
        RetryError: the server does not answer.
        InputError: it refuses access, or a value.
        UsageError: the address has a parameter that PostgreSQL does not know.
    """
    import psycopg

    address.hide_secrets()
    try:
        with psycopg.connect(address.url, connect_timeout=_SECONDS) as connection:
            yield connection
    except psycopg.Error as error:
        raise postgres_error(error, address) from None  # the trace could show the address


def postgres_error(error: Any, address: Server) -> RecsysError:
    """An error of psycopg or ADBC in plain words, without secrets."""
    words, state, kind = redacted(one_line(error)), error.sqlstate or "", {one.__name__ for one in type(error).__mro__}
    refused = any(text in words for text in ("authentication failed", "does not exist", "no pg_hba.conf entry"))
    if "ProgrammingError" in kind and not state:
        return UsageError(f"{address.variable} is not an address that PostgreSQL understands: {words}")
    lost = "SET TRANSACTION SNAPSHOT" in words  # it ended with the connection that kept it
    may_pass = bool(kind & {"OperationalError", "InterfaceError"}) and not refused and not state.startswith(_REFUSED)
    hint = ""
    if state in ("0A000", "58P01") and "vector" in words:
        hint = "; to=pgvector needs the extension pgvector on the server"
    return (RetryError if may_pass or lost else InputError)(f"PostgreSQL {address.name}: {words}{hint}")
