"""Documents in PostgreSQL: tasks COPY into a staging table, then one transaction shows the new version.

Readers see one whole version at any time. An export that stops leaves a staging table, which the next one drops. A
lock of the server lets one export at a time write to a schema.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import csv

from recsys_spark.errors import ConflictError
from recsys_spark.errors.failpoints import failpoint
from recsys_spark.export.documents import changed_documents
from recsys_spark.export.steps.collections import Collection, Exported
from recsys_spark.export.steps.sql_statements import Statements
from recsys_spark.export.steps.targets import Export
from recsys_spark.runtime.postgres import connected, postgres_server
from recsys_spark.runtime.servers import Server

if TYPE_CHECKING:
    from psycopg import Connection

_ROWS = pa.schema({"rows": pa.int64()})


class PostgresTarget:
    """The tables of one schema of a database."""

    takes_changes = True

    def __init__(self, schema: str, connections: int) -> None:
        self._server = postgres_server(name="--to=postgres")
        self._schema, self._connections = schema, connections
        with self._connected() as connection:
            connection.execute("SELECT 1")

    def last(self, collection: Collection) -> Exported | None:
        """The version in the table ``exports``."""
        statements = Statements(self._schema, collection)
        with self._connected() as connection:
            if connection.execute(statements.are_there).fetchone() != (True,):
                return None
            row = connection.execute(statements.version, [collection.table.name]).fetchone()
        return None if row is None else Exported.from_json(row[0])

    def interrupted(self, collection: Collection) -> str | None:
        """None: what was not committed is not there."""
        return None

    def publish(self, export: Export) -> dict[str, int]:
        """Copy changed documents, then upsert and delete in one transaction.

        Raises:
            ConflictError: another export to this schema is running.
        """
        table = export.collection.table.name
        statements = Statements(self._schema, export.collection, uuid.uuid4().hex[:12], export.shape)
        changes = export.documents.select("id", "value")
        if export.old is not None:
            changes = changed_documents(export.old, export.documents)
        with self._connected() as connection:
            if connection.execute(statements.lock, [f"recsys_spark.{self._schema}"]).fetchone() != (True,):
                raise ConflictError(f"another export to schema {self._schema} is running; run again when it has ended")
            for statement in statements.prepare:
                connection.execute(statement)
            copy = partial(_copy, server=self._server, statement=statements.copy)
            changes.coalesce(self._connections).mapInArrow(copy, "rows bigint").collect()
            failpoint("flip.before", table)
            with connection.transaction():
                for statement in statements.begin:
                    connection.execute(statement)
                removed = connection.execute(statements.remove(whole=export.old is None)).rowcount
                written = connection.execute(statements.upsert).rowcount
                for statement in statements.finish:
                    connection.execute(statement)
                connection.execute(statements.record, [table, export.version.to_json()])
        return {"written": written, "removed": removed}

    def close(self) -> None:
        """Nothing: the lock ends with its connection."""

    @contextmanager
    def _connected(self) -> "Iterator[Connection[Any]]":
        with connected(self._server) as connection:
            connection.autocommit = True  # transactions are opened where they are meant
            yield connection


def _copy(batches: Iterator[pa.RecordBatch], server: Server, statement: str) -> Iterator[pa.RecordBatch]:
    """In a task: copy rows in one transaction, which a failed attempt rolls back."""
    rows = 0
    with connected(server) as connection, connection.cursor().copy(statement) as copy:
        for batch in batches:
            text = BytesIO()
            options = csv.WriteOptions(include_header=False, quoting_style="all_valid")  # null: an empty field
            csv.write_csv(batch, text, options)
            copy.write(text.getvalue())
            rows += batch.num_rows
    yield pa.RecordBatch.from_pylist([{"rows": rows}], _ROWS)
