"""Where the service reads: the files of an export, or Redis."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from recsys_spark.errors import InputError, RetryError, UsageError
from recsys_spark.export.steps.collections import LISTS, NEIGHBORS, Collection, Exported
from recsys_spark.export.steps.redis_target import connected, document_key, redis_error, redis_server, version_key
from recsys_spark.lake.paths import absolute, is_uri
from recsys_spark.serve.kernels.bucket_reader import BucketFiles
from recsys_spark.serve.options import ServeOptions

COLLECTIONS = (LISTS, NEIGHBORS)

_ATTEMPTS = 5

Versions = dict[str, Exported]
"""The versions that are served, by table."""


class ListSource(Protocol):
    """Documents of the newest version that was loaded."""

    @property
    def versions(self) -> Versions:
        """What is served now."""

    async def value(self, collection: Collection, name: str) -> tuple[bytes | None, Exported | None]:
        """The document of an id, as JSON, and the version that it is of.

        Raises:
            RetryError: a server does not answer.
        """

    def reload(self) -> None:
        """Take up a new version, if there is one. Requests go on meanwhile.

        Raises:
            InputError, RetryError: it cannot be read; the last one is served on.
        """


def list_source(options: ServeOptions) -> ListSource:
    """The source that the options name, with its first version loaded."""
    source: ListSource = (
        RedisSource(options.redis_prefix) if options.source == "redis" else FolderSource(options.folder)
    )
    source.reload()
    return source


@dataclass(frozen=True)
class _Loaded:
    """The files of one version of a table, and the manifest that names them."""

    manifest: bytes
    version: Exported
    files: BucketFiles


class FolderSource:
    """Memory-mapped files. A version is replaced by one assignment, so that a request sees one of the two."""

    def __init__(self, folder: str) -> None:
        if is_uri(folder):
            raise UsageError(f"--folder={folder}: files are memory-mapped, give a folder of this machine")
        self._folder = Path(absolute(folder))
        self._loaded: dict[str, _Loaded] = {}

    @property
    def versions(self) -> Versions:
        return {name: loaded.version for name, loaded in self._loaded.items()}

    async def value(self, collection: Collection, name: str) -> tuple[bytes | None, Exported | None]:
        loaded = self._loaded.get(collection.table.name)
        return (None, None) if loaded is None else (loaded.files.value(name), loaded.version)

    def reload(self) -> None:
        loaded = {collection.table.name: self._load(collection) for collection in COLLECTIONS}
        self._loaded = {name: version for name, version in loaded.items() if version is not None}

    def _load(self, collection: Collection) -> _Loaded | None:
        """The version that the manifest names; None where neighbours were not exported.

        An export removes old files as soon as it has replaced the manifest: then the new one is read.
        """
        name = collection.table.name
        for _ in range(_ATTEMPTS):
            try:
                manifest = (self._folder / f"{name}.json").read_bytes()
            except FileNotFoundError:
                if collection is not LISTS:
                    return None
                raise InputError(f"{self._folder} holds no exported lists: {self._command()}") from None
            last = self._loaded.get(name)
            if last is not None and last.manifest == manifest:
                return last
            try:
                return self._map(manifest, name, last)
            except FileNotFoundError:
                continue
        raise RetryError(f"{self._folder}/{name}.json names files that are missing: export again")

    def _map(self, manifest: bytes, name: str, last: _Loaded | None) -> _Loaded:
        content: dict[str, Any] = json.loads(manifest)
        if content["file_format"] != "arrow":
            raise UsageError(f"{self._folder} holds files of the format {content['file_format']}: {self._command()}")
        files = {int(number): file for number, file in content["files"].items()}
        mapped = BucketFiles(f"{self._folder}/{name}", files, content["buckets"], None if last is None else last.files)
        return _Loaded(manifest, Exported.from_json(json.dumps(content["version"])), mapped)

    def _command(self) -> str:
        return f"run export_recommendations --to=folder --folder_format=arrow --folder={self._folder}"


class RedisSource:
    """Documents in Redis, read at each request."""

    def __init__(self, prefix: str) -> None:
        from redis.asyncio import Redis

        self._server, self._prefix = redis_server("--source=redis"), prefix
        self._client = Redis.from_url(self._server.url, socket_timeout=5, socket_connect_timeout=5)
        self._versions: Versions = {}

    @property
    def versions(self) -> Versions:
        return self._versions

    async def value(self, collection: Collection, name: str) -> tuple[bytes | None, Exported | None]:
        from redis import RedisError

        try:
            value = await self._client.get(document_key(self._prefix, collection.name, name))
        except RedisError as error:
            raise redis_error(error, self._server) from None
        stored = value.encode() if isinstance(value, str) else value
        return stored, self._versions.get(collection.table.name)

    def reload(self) -> None:
        with connected(self._server) as client:
            stored = {c.table.name: client.get(version_key(self._prefix, c.name)) for c in COLLECTIONS}
        versions = {name: Exported.from_json(record) for name, record in stored.items() if record is not None}
        if LISTS.table.name not in versions:
            raise InputError(
                f"Redis {self._server.name} holds no exported lists: run export_recommendations --to=redis"
            )
        self._versions = versions
