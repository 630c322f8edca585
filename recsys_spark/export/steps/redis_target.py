"""Documents in Redis: ``recs:{user_id}`` holds a list as one JSON value, ``recs.version`` the version that is shown.

Lists are replaced one by one, each whole, and the version flips at the end. ``recs.exporting`` marks an export from its
first write to that flip. Each batch is a transaction that WATCHes the mark: an export that another one has overtaken
writes nothing more.
"""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark.sql import DataFrame

from recsys_spark.arrays.arrow import slices
from recsys_spark.errors import ConflictError, InputError, RecsysError, RetryError
from recsys_spark.errors.failpoints import failpoint
from recsys_spark.errors.messages import one_line
from recsys_spark.errors.redaction import redacted
from recsys_spark.export.documents import changed_documents, removed_documents
from recsys_spark.export.steps.collections import Collection, Exported
from recsys_spark.export.steps.targets import Export
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.servers import Server, check_installed, server

if TYPE_CHECKING:
    from redis import Redis

VARIABLE = "RECSYS_REDIS_URL"

REQUIREMENT = "redis>=5"

_BATCH_DOCUMENTS, _BATCH_BYTES = 1000, 2**23

_SCANNED_KEYS = 5000

_SECONDS = 30
"""Longest wait for an answer of the server."""

_COUNTS = pa.schema({"written": pa.int64(), "removed": pa.int64()})


def redis_server(name: str = "--to=redis") -> Server:
    """The server that the environment names.

    Raises:
        UsageError: the package redis or the address is missing, or the address is wrong.
    """
    check_installed("redis", REQUIREMENT, name=name)
    return server(VARIABLE, ("redis", "rediss", "unix"), name=name)


class RedisTarget:
    """A database of one Redis server. Not a Redis Cluster: a transaction holds many keys."""

    takes_changes = True

    def __init__(self, prefix: str, connections: int) -> None:
        self._server, self._prefix, self._connections = redis_server(), prefix, connections
        with connected(self._server) as client:
            client.ping()

    def last(self, collection: Collection) -> Exported | None:
        """The version that ``NAME.version`` shows."""
        with connected(self._server) as client:
            stored = client.get(version_key(self._prefix, collection.name))
        return None if stored is None else Exported.from_json(stored)

    def interrupted(self, collection: Collection) -> str | None:
        """The content id that ``NAME.exporting`` has."""
        with connected(self._server) as client:
            stored = client.get(self._mark_key(collection))
        return None if stored is None else str(json.loads(stored)["content_id"])

    def publish(self, export: Export) -> dict[str, int]:
        """Write changed documents in transactions of up to 1,000 keys, then flip the version.

        Raises:
            ConflictError: another export to this server began since.
        """
        run, collection = export.run, export.collection
        mark = json.dumps({"content_id": export.version.content_id, "export": uuid.uuid4().hex}).encode()
        compares = export.old is None or self.interrupted(collection) is not None
        prefix, mark_key = document_key(self._prefix, collection.name, ""), self._mark_key(collection)
        with connected(self._server) as client:
            client.set(mark_key, mark)
        if export.old is None:
            removed = removed_documents(self._ids(run, collection), export.documents)
            changes = export.documents.select("id", "value").unionByName(removed)
        else:
            changes = changed_documents(export.old, export.documents)
        write = partial(_write, server=self._server, prefix=prefix, mark_key=mark_key, mark=mark, compares=compares)
        tasks = changes.coalesce(self._connections).mapInArrow(write, "written bigint, removed bigint").collect()
        failpoint("flip.before", collection.table.name)
        with connected(self._server) as client:
            flipped = {version_key(self._prefix, collection.name): export.version.to_json()}
            _transact(client, mark_key, mark, flipped, [mark_key])
        return {name: sum(task[name] for task in tasks) for name in _COUNTS.names}

    def close(self) -> None:
        """Nothing: connections are closed after each use."""

    def _mark_key(self, collection: Collection) -> str:
        return f"{self._prefix}{collection.name}.exporting"

    def _ids(self, run: Run, collection: Collection) -> DataFrame:
        """``id`` of the documents in Redis, found by SCAN, which may name one twice."""
        scan = partial(_scan, server=self._server, prefix=document_key(self._prefix, collection.name, ""))
        return run.spark.range(1).coalesce(1).mapInArrow(scan, "id string")


def document_key(prefix: str, collection: str, name: str) -> str:
    """The key of a document."""
    return f"{prefix}{collection}:{name}"


def version_key(prefix: str, collection: str) -> str:
    """The key of the version that is shown. No document has it: a dot is no colon."""
    return f"{prefix}{collection}.version"


@contextmanager
def connected(address: Server) -> "Iterator[Redis]":
    """A connection, closed at the end.

    Raises:
        RetryError: the server does not answer, or has no memory left.
        InputError: it refuses access, or a command.
        ConflictError: another export has changed what a transaction watches.
    """
    from redis import Redis, RedisError

    address.hide_secrets()
    client = None
    try:
        client = Redis.from_url(address.url, socket_connect_timeout=_SECONDS, socket_timeout=_SECONDS)
        yield client
    except RedisError as error:
        raise redis_error(error, address) from None  # the trace could show the address
    finally:
        if client is not None:
            client.close()


def redis_error(error: Exception, address: Server) -> RecsysError:
    """An error of the client in plain words, without secrets."""
    from redis import exceptions

    if isinstance(error, exceptions.WatchError):
        return ConflictError(f"another export to Redis {address.name} began since this one started; run again")
    refused = isinstance(error, exceptions.AuthenticationError | exceptions.NoPermissionError)
    passing = exceptions.ConnectionError | exceptions.TimeoutError | exceptions.OutOfMemoryError
    kind = RetryError if isinstance(error, passing | exceptions.ReadOnlyError) and not refused else InputError
    return kind(f"Redis {address.name}: {redacted(one_line(error))}")


def _write(
    batches: Iterator[pa.RecordBatch], server: Server, prefix: str, mark_key: str, mark: bytes, compares: bool
) -> Iterator[pa.RecordBatch]:
    """In a task: write documents, remove those without a value. ``compares``: skip those that Redis holds already."""
    written = removed = 0
    with connected(server) as client:
        for rows in slices(batches, _BATCH_DOCUMENTS, _BATCH_BYTES):
            keys = [prefix + name for name in rows["id"].to_pylist()]
            values = dict(zip(keys, rows["value"].to_pylist(), strict=True))
            if compares:
                stored = zip(keys, client.mget(keys), strict=True)
                values = {key: values[key] for key, old in stored if values[key] != _text(old)}
            documents = {key: value for key, value in values.items() if value is not None}
            removed += _transact(client, mark_key, mark, documents, [key for key in values if key not in documents])
            written += len(documents)
    yield pa.RecordBatch.from_pylist([{"written": written, "removed": removed}], _COUNTS)


def _text(value: bytes | str | None) -> str | None:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _transact(client: "Redis", mark_key: str, mark: bytes, values: dict[str, str], removed: list[str]) -> int:
    """Set and remove keys at once, if the mark is still this export's. Returns the number of removed keys.

    Raises:
        ConflictError, WatchError: it is not.
    """
    with client.pipeline(transaction=True) as pipe:
        pipe.watch(mark_key)
        if pipe.get(mark_key) != mark:
            raise ConflictError("another export to Redis began since this one started; run again")
        pipe.multi()
        if values:
            pipe.mset(values)
        if removed:
            pipe.unlink(*removed)
        answers: list[Any] = pipe.execute()
    return int(answers[-1]) if removed else 0


def _scan(batches: Iterator[pa.RecordBatch], server: Server, prefix: str) -> Iterator[pa.RecordBatch]:
    """In a task: the ids of all documents."""
    for _ in batches:
        with connected(server) as client:
            cursor, first = 0, True
            while cursor or first:
                cursor, keys = client.scan(cursor, match=f"{prefix}*", count=_SCANNED_KEYS)
                names = [str(_text(key))[len(prefix) :] for key in keys]
                yield pa.RecordBatch.from_arrays([pa.array(names, pa.string())], names=["id"])
                first = False
