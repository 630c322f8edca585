"""The routes of the service. Every answer but the metrics is JSON; an error is a sentence."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from recsys_spark.errors import RecsysError, RetryError
from recsys_spark.errors.redaction import redacted
from recsys_spark.export.steps.collections import LISTS, NEIGHBORS, Collection
from recsys_spark.serve.options import ServeOptions
from recsys_spark.serve.steps.list_sources import ListSource
from recsys_spark.serve.steps.metrics import ServiceMetrics
from recsys_spark.tables.schemas import ANYONE

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

_LOG = logging.getLogger(__name__)

Answer = tuple[int, dict[str, Any]]


class BadRequestError(Exception):
    """A request that is refused, with the reason."""


class Service:
    """Answers requests from a source."""

    def __init__(self, source: ListSource, options: ServeOptions) -> None:
        self._source, self._options, self.metrics = source, options, ServiceMetrics(source)

    def app(self) -> "Starlette":
        """The ASGI application."""
        from starlette.applications import Starlette
        from starlette.responses import Response
        from starlette.routing import Route

        async def metrics(request: "Request") -> Response:
            return Response(self.metrics.text(), media_type=self.metrics.media_type)

        routes = [
            Route("/users/{name:path}/recommendations", self._endpoint("recommendations", self._recommendations)),
            Route("/items/{name:path}/neighbors", self._endpoint("neighbors", self._neighbors)),
            Route("/health", self._endpoint("health", self._health)),
            Route("/metrics", metrics),
            Route("/{path:path}", self._endpoint("unknown", self._unknown)),
        ]
        return Starlette(routes=routes, lifespan=self._lifespan)

    def _endpoint(
        self, route: str, answer: Callable[["Request"], Awaitable[Answer]]
    ) -> Callable[["Request"], Awaitable["Response"]]:
        """Measure an answer, and turn refusals into one."""
        from starlette.responses import Response

        async def endpoint(request: "Request") -> Response:
            with self.metrics.seconds(route):
                try:
                    status, content = await answer(request)
                except BadRequestError as error:
                    status, content = 400, {"error": str(error)}
                except RecsysError as error:
                    status, content = 503, {"error": redacted(str(error))}
            self.metrics.count(route, status)
            body = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
            return Response(body, status, media_type="application/json")

        return endpoint

    async def _recommendations(self, request: "Request") -> Answer:
        name, k = self._requested_id(request), self._k(request)
        status, content = await self._ranked(LISTS, name, k)
        if status == 404:
            fallback, _ = await self._source.value(LISTS, ANYONE)
            error = f"user {name!r} has no list"
            if fallback is None:
                return 404, {"error": error, "fallback": False}
            error += "; items are the list for people without a history"
            return 404, content | {"error": error, "fallback": True, "items": json.loads(fallback)[:k]}
        return status, content | {"fallback": name == ANYONE}

    async def _neighbors(self, request: "Request") -> Answer:
        name = self._requested_id(request)
        status, content = await self._ranked(NEIGHBORS, name, self._k(request))
        return status, content if status == 200 else {"error": f"item {name!r} has no neighbours"}

    async def _ranked(self, collection: Collection, name: str, k: int) -> Answer:
        """The first ``k`` entries of a document; 404 if there is none."""
        value, version = await self._source.value(collection, name)
        about = {} if version is None else {"version": version.version, "run_date": version.run_date}
        content = {collection.id_column: name, **about}
        return (404, content) if value is None else (200, content | {"items": json.loads(value)[:k]})

    async def _health(self, request: "Request") -> Answer:
        versions = self._source.versions
        served = {name: {"version": v.version, "run_date": v.run_date} for name, v in versions.items()}
        return 200, {"status": "ok", "served": served}

    async def _unknown(self, request: "Request") -> Answer:
        routes = "/users/ID/recommendations, /items/ID/neighbors, /health, /metrics"
        return 404, {"error": f"there is no such route; there are {routes}"}

    def _requested_id(self, request: "Request") -> str:
        name, most = request.path_params["name"], self._options.max_id_chars
        if not 0 < len(name) <= most:
            raise BadRequestError(f"the id has {len(name)} characters; give 1 to {most}")
        return str(name)

    def _k(self, request: "Request") -> int:
        text, most = request.query_params.get("k"), self._options.max_k
        if text is None:
            return self._options.default_k
        if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
            raise BadRequestError(f"k is {text[:20]!r}; give a whole number from 1 to {most}")
        return int(text)

    @asynccontextmanager
    async def _lifespan(self, app: "Starlette") -> AsyncIterator[None]:
        task = asyncio.create_task(self._reload_forever())
        yield
        task.cancel()

    async def _reload_forever(self) -> None:
        while True:
            await asyncio.sleep(self._options.reload_seconds)
            try:
                await asyncio.to_thread(self._source.reload)
            except (RecsysError, OSError, ValueError, KeyError) as error:
                self.metrics.failed_reloads.inc()
                hint = "" if isinstance(error, RetryError) else "; the last version is served on"
                _LOG.warning("warning: no new version: %s%s", redacted(str(error)), hint)
