"""Tables of PostgreSQL as sources, without a JDBC driver: tasks COPY ranges of a key as Arrow, all of one snapshot.

The driver's connection, by psycopg, keeps the snapshot. Tasks read through ADBC: half a million rows took 0.6 s,
and 1.5 s as CSV through psycopg, which hands each row to Python.
"""

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from recsys_spark.errors import InputError, UsageError
from recsys_spark.runtime.postgres import VARIABLE, connected, postgres_error, postgres_server
from recsys_spark.runtime.servers import Server, check_installed
from recsys_spark.sources.dataset_file import Source
from recsys_spark.sources.listing import Part, Wanted, selected
from recsys_spark.sources.task_rows import rows_of_tasks
from recsys_spark.sources.whole_tables import unique_mark

if TYPE_CHECKING:
    from psycopg import Connection

REQUIREMENT = "adbc-driver-postgresql>=1.2"

_OPTIONS = ("url", "key", "parts")

_PARTS = 8

_TYPES = {
    "int2": "smallint", "int4": "int", "int8": "bigint", "float4": "float", "float8": "double", "bool": "boolean",
    "date": "date", "timestamp": "timestamp_ntz", "timestamptz": "timestamp",
}  # fmt: skip

_ENDLESS = ("date", "timestamp", "timestamptz")
"""Types with a value 'infinity', for which Spark has none: it is null."""

_MOST_DIGITS = 38

_COLUMNS = """
SELECT a.attname, t.typname, t.typtype, t.typcategory,
    (a.atttypmod - 4) >> 16, (a.atttypmod - 4) & 2047, a.atttypmod >= 4
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""

_NAME = "SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass(%s)"  # noqa: E501


@dataclass(frozen=True)
class PostgresListing:
    """A table or view as one snapshot of the server shows it. The snapshot ends with this object."""

    server: Server
    table: str
    snapshot: str
    columns: Mapping[str, tuple[str, str]]
    """Type in Spark and SQL of each column."""
    ranges: Sequence[str]
    """The rest of the query of each task."""
    bytes: None = None
    mark: str = field(default_factory=unique_mark)

    @property
    def entries(self) -> list[str]:
        """Another line in every run: nothing says cheaply whether the rows have changed."""
        return [f"postgres {self.table} {self.mark}"]

    def added(self, before: Sequence[str]) -> Part | str:
        """No part: keys are not committed in their order, and rows may be updated."""
        return "a table of PostgreSQL has no record of what was added"

    @property
    def schema(self) -> StructType:
        """All columns."""
        ddl = ", ".join(f"`{name.replace('`', '``')}` {kind}" for name, (kind, _) in self.columns.items())
        schema = StructType.fromDDL(ddl)
        assert isinstance(schema, StructType)
        return schema

    def frame(self, spark: SparkSession, part: Part | None = None, wanted: Wanted = list) -> DataFrame:
        """All rows."""
        schema = selected(self.schema, wanted)
        read = partial(_rows, server=self.server, snapshot=self.snapshot)
        what = f"PostgreSQL {self.server.name}, table {self.table}"
        return rows_of_tasks(spark, self.queries(schema.names), read, schema, what)

    def queries(self, names: Sequence[str]) -> list[str]:
        """The query of each task for some columns."""
        columns = ", ".join(self.columns[name][1] for name in names)
        return [f"SELECT {columns}{rest}" for rest in self.ranges]


def postgres_listing(name: str, source: Source, data: str) -> PostgresListing:
    """A snapshot of a table or view.

    Raises:
        UsageError: an option is wrong, there is no address, or a package is missing.
        InputError: there is no such table, or the server refuses access.
        RetryError: the server does not answer.
    """
    options = _options(name, source)
    needs = f"source '{name}' (format = \"postgres\")"
    check_installed("adbc_driver_postgresql", REQUIREMENT, name=needs)
    server = postgres_server(options["url"].removeprefix("$"), name=needs)
    stack = ExitStack()
    connection = stack.enter_context(connected(server))
    try:
        snapshot = _begin(connection)
        listing = _listing(name, source, server, connection, snapshot, options)
    except BaseException as error:
        stack.__exit__(type(error), error, error.__traceback__)
        raise
    weakref.finalize(listing, _close, stack)
    return listing


def _options(name: str, source: Source) -> dict[str, str]:
    options = {"url": f"${VARIABLE}", "parts": str(_PARTS)} | {key: str(value) for key, value in source.options.items()}
    if other := sorted(options.keys() - {*_OPTIONS}):
        raise UsageError(f'[sources.{name}]: format = "postgres" has options {", ".join(_OPTIONS)}, not {other[0]}')
    if not options["url"].startswith("$"):
        raise UsageError(
            f'[sources.{name}]: url names an environment variable that holds the address, such as url = "${VARIABLE}"'
        )
    if not options["parts"].isdecimal() or not int(options["parts"]):
        raise UsageError(f"[sources.{name}]: parts is {options['parts']!r}, not a number of tasks")
    return options


def _begin(connection: "Connection[Any]") -> str:
    """Begin a transaction that only reads. Returns its snapshot."""
    from psycopg import IsolationLevel

    connection.isolation_level, connection.read_only = IsolationLevel.REPEATABLE_READ, True
    connection.execute("SET idle_in_transaction_session_timeout = 0")
    row = connection.execute("SELECT pg_export_snapshot()").fetchone()
    assert row is not None
    return str(row[0])


def _listing(
    name: str,
    source: Source,
    server: Server,
    connection: "Connection[Any]",
    snapshot: str,
    options: dict[str, str],
) -> PostgresListing:
    from psycopg import sql

    place = connection.execute(_NAME, [source.table]).fetchone()
    if place is None:
        raise InputError(f"source '{name}': PostgreSQL {server.name} has no table {source.table}")
    table, there = sql.Identifier(*place[1:]), connection.execute(_COLUMNS, [place[0]]).fetchall()
    columns = {}
    for column, *kind in there:
        words, identifier = sql.SQL(_expression(*kind[:3]) + " AS {}"), sql.Identifier(column)
        columns[column] = _kind(*kind), words.format(identifier, identifier).as_string(connection)
    ranges: list[sql.Composable] = [sql.SQL("")]
    if "key" in options:
        kinds = {column: kind for column, kind, *_ in there}
        if not kinds.get(options["key"], "").startswith("int"):
            listed = ", ".join(f"{column} {kind}" for column, kind in kinds.items())
            raise UsageError(f"[sources.{name}]: key is {options['key']}, which is no column of whole numbers in "
                             f"{source.table}; columns: {listed}")  # fmt: skip
        key = sql.Identifier(options["key"])
        bounds = connection.execute(sql.SQL("SELECT min({0}), max({0}) FROM {1}").format(key, table)).fetchone()
        assert bounds is not None
        ranges = [sql.SQL(words).format(key) for words in key_ranges(int(options["parts"]), *bounds)]
    rests = [(sql.SQL(" FROM {}").format(table) + one).as_string(connection) for one in ranges]
    return PostgresListing(server, str(source.table), snapshot, columns, rests)


def key_ranges(parts: int, least: int | None, most: int | None) -> list[str]:
    """Conditions on a key, ``{0}``, that divide all rows: ranges of equal width; a missing key is in the first.

    ``least, most``: of the keys; None where there is none.
    """
    if least is None or most is None or parts == 1 or least == most:
        return [""]
    width = -((least - most - 1) // parts)
    starts = list(range(least, most + 1, width))
    inner = [f" WHERE {{0}} >= {start} AND {{0}} < {end}" for start, end in zip(starts[1:], starts[2:], strict=False)]
    return [f" WHERE {{0}} < {starts[1]} OR {{0}} IS NULL", *inner, f" WHERE {{0}} >= {starts[-1]}"]


def _kind(name: str, typtype: str, category: str, precision: int, scale: int, limited: bool) -> str:
    """The type in Spark. Numbers without a limit, and what Spark has no type for, are text."""
    if name == "numeric" and limited and scale <= precision <= _MOST_DIGITS:
        return f"decimal({precision},{scale})"
    return _TYPES.get(name, "string")


def _expression(name: str, typtype: str, category: str) -> str:
    """A column, ``{}``, as ADBC can give it. Arrays and composite values are JSON."""
    if name in _ENDLESS:
        return f"NULLIF(NULLIF({{}}, '-infinity'::{name}), 'infinity'::{name})"
    if name == "numeric":
        return "NULLIF({}, 'NaN')::text"
    if name in _TYPES:
        return "{}"
    return "to_json({})::text" if category == "A" or typtype == "c" else "{}::text"


def _rows(query: str, schema: pa.Schema, server: Server, snapshot: str) -> Iterator[pa.RecordBatch]:
    """In a task: the rows of a query, in the snapshot of the driver."""
    from adbc_driver_postgresql import dbapi

    server.hide_secrets()
    try:
        with dbapi.connect(server.url) as connection, connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
            cursor.execute(query)
            for batch in cursor.fetch_record_batch():
                arrays = [batch.column(number).cast(one.type) for number, one in enumerate(schema)]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)
    except dbapi.Error as error:
        raise postgres_error(error, server) from None  # the trace could show the address


def _close(stack: ExitStack) -> None:
    with suppress(Exception):  # a connection that was lost is closed
        stack.close()
