"""Serve exported lists over HTTP until SIGTERM. Starts no Spark session."""

import socket
import sys
from threading import Thread
from typing import TYPE_CHECKING

from recsys_spark.errors import Terminated, UsageError
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.servers import check_installed
from recsys_spark.serve.options import ServeOptions
from recsys_spark.serve.steps.app import Service
from recsys_spark.serve.steps.list_sources import ListSource, list_source

if TYPE_CHECKING:
    from uvicorn import Server

_PACKAGES = {"starlette": "starlette", "uvicorn": "uvicorn", "prometheus_client": "prometheus-client"}

_LAST_SECONDS = 20
"""Longest time for requests in progress when the service stops."""


def serve_recommendations(run: Run, options: ServeOptions) -> Report:
    """Answer requests until SIGTERM or Ctrl-C; requests in progress are answered first.

    Raises:
        InputError: nothing was exported to the source.
        UsageError: packages are missing, or the port is taken.
        RetryError: Redis does not answer.
    """
    for module, requirement in _PACKAGES.items():
        check_installed(module, requirement, name="serve_recommendations")
    source = list_source(options)
    with _listener(options) as listener:
        if not options.dry_run:
            _serve(source, options, listener)
    served = {name: {"version": v.version, "run_date": v.run_date} for name, v in source.versions.items()}
    return {"tables": {}, "served": served}


def _serve(source: ListSource, options: ServeOptions, listener: socket.socket) -> None:
    """The server has a thread of its own: in the main thread it would take SIGTERM from the job."""
    server = _server(source, options)
    thread = Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    host, port = listener.getsockname()[:2]
    try:  # from the line on that says so: SIGTERM ends the service in order
        print(f"listening at http://{f'[{host}]' if ':' in host else host}:{port}", file=sys.stderr, flush=True)
        thread.join()
    except (Terminated, KeyboardInterrupt):
        server.should_exit = True
        thread.join()


def _server(source: ListSource, options: ServeOptions) -> "Server":
    from uvicorn import Config, Server

    config = Config(
        Service(source, options).app(),
        log_config=None,
        access_log=False,
        lifespan="on",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=_LAST_SECONDS,
    )
    return Server(config)


def _listener(options: ServeOptions) -> socket.socket:
    """The socket that requests come to.

    Raises:
        UsageError: the address is taken or not of this machine.
    """
    family = socket.AF_INET6 if ":" in options.listen_host else socket.AF_INET
    # With the protocol named, asyncio sets TCP_NODELAY; without it the body of an answer waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((options.listen_host, options.listen_port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        where = f"--listen_host={options.listen_host} --listen_port={options.listen_port}"
        raise UsageError(f"{where}: {reason}; choose another") from error
    return listener
