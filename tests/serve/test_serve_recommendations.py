"""The service as a process of its own: answers, refusals, new versions, its end."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from threading import Event, Thread
from urllib.parse import quote

import pytest

from recsys_spark.tables.schemas import ITEM_NEIGHBORS, RECOMMENDATIONS
from tests.bench.jobs_here import run_job
from tests.bench.servers import redis_server
from tests.bench.small_lake import DAY, Bench
from tests.conftest import ROOT

for package in ("starlette", "uvicorn", "prometheus_client"):
    pytest.importorskip(package, reason=f"{package} is not installed (extra 'serve')")

USERS = {"u1": ["a1", "a2", "a3"], "u/2 é": ["a3"], "*": ["a2", "a1"]}


@contextmanager
def service(*arguments, **environment):
    """The port of a running service, which has answered; it must end in order."""
    command = [sys.executable, str(ROOT / "jobs" / "serve_recommendations.py"), "--listen_port=0", *arguments]
    where = os.environ | {"PYTHONPATH": str(ROOT), "JAVA_HOME": "/nowhere"} | environment
    process = subprocess.Popen(command, env=where, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    line = process.stderr.readline()
    if "listening" not in line:
        raise AssertionError(line + process.stderr.read())
    try:
        yield int(re.search(r":(\d+)\n", line)[1])
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        assert json.loads(out)["status"] == "done"
    finally:
        process.kill()
        process.communicate()


def get(port, path, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    body = answer.read().decode()
    return answer.status, json.loads(body) if body.startswith("{") else body


def items(content):
    return [entry["item_id"] for entry in content["items"]]


class Shop(Bench):
    def publish(self, users):
        rows = [
            (user, item, 0.5 / rank, rank, DAY, "m-1")
            for user, names in users.items()
            for rank, item in enumerate(names, 1)
        ]
        self.put(RECOMMENDATIONS, *rows)

    def export(self, *arguments):
        done = run_job("export_recommendations", f"--lake={self.lake.uri}", *arguments)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def shop(spark, tmp_path):
    bench = Shop(spark, tmp_path)
    bench.publish(USERS)
    bench.put(ITEM_NEIGHBORS, ("a1", "a2", 0.5, 1, "m-1"), ("a1", "a3", 0.25, 2, "m-1"))
    return bench


def check_answers(port, version):
    status, content = get(port, "/users/u1/recommendations?k=2")
    assert (status, items(content), content["fallback"]) == (200, ["a1", "a2"], False)
    assert content["items"][0] == {"item_id": "a1", "score": 0.5}
    assert (content["user_id"], content["version"]) == ("u1", version)
    assert items(get(port, f"/users/{quote('u/2 é', safe='')}/recommendations")[1]) == ["a3"]
    status, content = get(port, "/users/nobody/recommendations?k=1")
    assert (status, content["fallback"], items(content)) == (404, True, ["a2"])
    assert "user 'nobody' has no list" in content["error"]
    assert items(get(port, "/items/a1/neighbors")[1]) == ["a2", "a3"]
    assert get(port, "/items/a9/neighbors") == (404, {"error": "item 'a9' has no neighbours"})
    assert get(port, "/health")[1]["served"]["recommendations"]["version"] == version


def test_lists_are_served_from_a_folder_without_a_jvm_and_requests_are_bounded(shop, tmp_path):
    folder = f"--folder={tmp_path / 'served'}"
    shop.export("--to=folder", "--folder_format=arrow", "--buckets=3", folder)
    with service(folder) as port:
        check_answers(port, 0)
        for path, words in (
            ("/users/u1/recommendations?k=0", "k is '0'; give a whole number from 1 to 100"),
            ("/users/u1/recommendations?k=101", "from 1 to 100"),
            ("/users/u1/recommendations?k=ten", "k is 'ten'"),
            (f"/users/{'x' * 257}/recommendations", "the id has 257 characters; give 1 to 256"),
            ("/users//recommendations", "the id has 0 characters"),
        ):
            status, content = get(port, path)
            assert (status, words in content["error"]) == (400, True)
        assert get(port, "/lists")[0] == 404
        assert get(port, "/users/u1/recommendations", "DELETE")[0] == 405
        text = get(port, "/metrics")[1]
        assert 'recsys_requests_total{route="recommendations",status="400"} 5.0' in text
        assert 'recsys_served_version{table="recommendations"} 0.0' in text


def test_a_new_version_is_taken_up_without_a_failed_request(shop, tmp_path):
    folder = f"--folder={tmp_path / 'served'}"
    export = ("--to=folder", "--folder_format=arrow", folder)
    shop.export(*export)
    with service(folder, "--reload_seconds=0.05") as port:
        seen, stop = [], Event()

        def ask():
            while not stop.is_set():
                status, content = get(port, "/users/u1/recommendations")
                seen.append((status, content.get("version"), tuple(items(content))))

        thread = Thread(target=ask)
        thread.start()
        for item in ("b1", "b2"):
            shop.publish(USERS | {"u1": [item]})
            shop.export(*export)
            deadline = time.monotonic() + 20
            while seen[-1][2] != (item,) and time.monotonic() < deadline:
                time.sleep(0.05)
        stop.set()
        thread.join()
    assert {status for status, *_ in seen} == {200}
    lists = {version: names for _, version, names in seen}
    assert lists == {0: ("a1", "a2", "a3"), 1: ("b1",), 2: ("b2",)}
    assert {(version, names) for _, version, names in seen} == {*lists.items()}


def test_lists_are_served_from_redis_and_a_server_that_is_down_is_said(shop):
    with redis_server() as url:
        os.environ["RECSYS_REDIS_URL"] = url
        try:
            shop.export("--to=redis", "--redis_prefix=shop:")
        finally:
            del os.environ["RECSYS_REDIS_URL"]
        running = service("--source=redis", "--redis_prefix=shop:", RECSYS_REDIS_URL=url)
        port = running.__enter__()
        check_answers(port, 0)
    status, content = get(port, "/users/u1/recommendations")
    assert (status, "Redis 127.0.0.1" in content["error"]) == (503, True)
    assert "canary" not in content["error"]
    running.__exit__(None, None, None)


def test_what_cannot_be_served_is_said_at_the_start(shop, tmp_path):
    def failed(*arguments):
        done = run_job("serve_recommendations", "--dry_run", *arguments)
        return done.returncode, done.stderr

    folder = f"--folder={tmp_path / 'out'}"
    code, text = failed(folder)
    assert (code, "run export_recommendations --to=folder --folder_format=arrow" in text) == (4, True)
    shop.export("--to=folder", folder)
    code, text = failed(folder)
    assert (code, "files of the format parquet" in text) == (2, True)
    assert failed("--folder=s3://bucket/x")[0] == 2
    shop.export("--to=folder", "--folder_format=arrow", folder)
    assert failed(folder)[0] == 0
    with service(folder) as port:
        code, text = failed(folder, f"--listen_port={port}")
    assert (code, "Address already in use" in text) == (2, True)
    with redis_server() as url:
        os.environ["RECSYS_REDIS_URL"] = url
        try:
            assert failed("--source=redis")[0] == 4
        finally:
            del os.environ["RECSYS_REDIS_URL"]
    assert not (tmp_path / "lake" / "_status" / "serve_recommendations").exists()
