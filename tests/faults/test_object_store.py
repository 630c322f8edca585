"""A lake on S3: Delta's conditional writes and the data files, against moto, and moto behind a proxy that fails."""

import http.client
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import quote

import pytest
from deltalake import DeltaTable

from recsys_spark.errors import InputError
from recsys_spark.lake.lake import Lake
from recsys_spark.tables.schemas import EMBEDDINGS, ITEMS, USERS
from tests.bench.jobs_here import run_job
from tests.bench.object_store import bucket, environment
from tests.bench.small_lake import Bench
from tests.bench.spark_submit import last_json, submit
from tests.conftest import ROOT


def refresh(shop: Path, lake: str, model: Path, run_date: str = "2024-03-01") -> list[str]:
    arguments = [f"--dataset={shop / 'shop.toml'}", f"--data={shop}", f"--lake={lake}", f"--model={model}"]
    return ["refresh_lake", *arguments, f"--run_date={run_date}", "--k=3", "--scorer=cosine"]


def rows_of(lake: str, options: dict[str, str] | None = None) -> list[dict]:
    table = DeltaTable(f"{lake}/recommendations", storage_options=options).to_pyarrow_table()
    return table.sort_by([("user_id", "ascending"), ("rank", "ascending")]).to_pylist()


def objects(endpoint: str, name: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of everything in a bucket."""
    connection = http.client.HTTPConnection(endpoint.removeprefix("http://"))
    connection.request("GET", f"/{name}?list-type=2&max-keys=1000")
    for key in re.findall(r"<Key>([^<]+)</Key>", connection.getresponse().read().decode()):
        connection.request("GET", f"/{name}/{quote(key)}")
        yield key, connection.getresponse().read()


class Flaky(BaseHTTPRequestHandler):
    """Passes requests on, but answers every fifth one itself: 503, slow down."""

    target, arguments, failed, conditional = "", 0, 0, True
    protocol_version = "HTTP/1.1"

    def _pass_on(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            self._answer(b"".join(iter(self._chunk, b"")))
        else:
            self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def _chunk(self) -> bytes:
        content = self.rfile.read(int(self.rfile.readline().split(b";")[0], 16))
        self.rfile.readline()
        return content

    def _answer(self, body: bytes) -> None:
        Flaky.arguments += 1
        if self.conditional and Flaky.arguments % 5 == 0:
            Flaky.failed += 1
            self._fail()
            return
        self._send(*self._asked(body))

    def _fail(self) -> None:
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _asked(self, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection(self.target)
        left_out = {"transfer-encoding", "expect"} | (set() if self.conditional else {"if-none-match"})
        headers = {name: value for name, value in self.headers.items() if name.lower() not in left_out}
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        return answer, answer.read()

    def _send(self, answer: http.client.HTTPResponse, content: bytes) -> None:
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length", "server", "date"):
                self.send_header(name, value)
        self.send_header("Content-Length", answer.getheader("Content-Length") or str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def flaky(store: str) -> Iterator[str]:
    Flaky.target = store.removeprefix("http://")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


class Unconditional(Flaky):
    """A store that does not know If-None-Match."""

    conditional = False


class Forgetful(Flaky):
    """Makes every commit of Delta, and loses the answer to the first request for it: 503, or the connection ends."""

    lost, how = set[str](), "503"

    def _answer(self, body: bytes) -> None:
        answer, content = self._asked(body)
        if self.command != "PUT" or "_delta_log/" not in self.path or self.path in Forgetful.lost:
            self._send(answer, content)
            return
        Forgetful.lost.add(self.path)
        if self.how == "503":
            self._fail()
        else:
            self.close_connection = True


@pytest.mark.parametrize("how", ["503", "cut"])
def test_a_commit_whose_answer_is_lost_is_made_once_and_is_no_conflict(how, store):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Forgetful)
    Thread(target=server.serve_forever, daemon=True).start()
    lake, Forgetful.target, Forgetful.how = bucket(store, f"forgetful-{how}"), store.removeprefix("http://"), how
    Forgetful.lost.clear()
    where = os.environ | environment(f"http://127.0.0.1:{server.server_port}") | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.faults.commits_again", lake]
    done = subprocess.run(command, env=where, capture_output=True, text=True, check=False)
    server.shutdown()
    assert done.returncode == 0, done.stderr[-3000:]
    assert len([path for path in Forgetful.lost if "/_delta_log/0" in path]) == 6
    tables = [DeltaTable(f"{lake}/{name}", storage_options=environment(store)) for name in ("snapshot", "log")]
    shown = [sorted(table.to_pyarrow_table()["weight"].to_pylist()) for table in tables]
    assert shown == [[3.0], [1.0, 2.0, 3.0]]
    assert [table.version() for table in tables] == [2, 2]


def test_a_store_that_ignores_conditions_is_refused_before_any_work(flaky, store, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Unconditional)
    Thread(target=server.serve_forever, daemon=True).start()
    lake = Lake(bucket(store, "careless"))
    for name, value in environment(store).items():
        monkeypatch.setenv(name, value)
    lake.plain.check_writable()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    with pytest.raises(InputError, match="ignores conditional writes"):
        lake.plain.check_writable()
    server.shutdown()


def test_lists_on_s3_are_those_of_a_local_lake_and_no_key_is_kept(spark, store, tmp_path, monkeypatch):
    where, arguments = environment(store), ["--run_date=2024-03-01", "--k=2", "--scorer=cosine"]
    for name, value in where.items():
        monkeypatch.setenv(name, value)
        monkeypatch.setitem(spark.sparkContext.environment, name, value)  # of Python workers
    lakes, done = [bucket(store, "lists"), str(tmp_path / "lake")], []
    for lake in lakes:
        bench = Bench(spark, tmp_path)
        bench.lake = Lake(lake)
        for table in (ITEMS, USERS, EMBEDDINGS):
            bench.put(table)
        bench.put_events(("u1", "a1", "view"))
        bench.put_vectors()
        bench.put_profiles()
        done.append(run_job("recommend_items", f"--lake={lake}", *arguments))
        assert done[-1].returncode == 0, done[-1].stderr
    assert rows_of(lakes[0], where) == rows_of(lakes[1]) != []
    done.append(run_job("recommend_items", f"--lake={lakes[0]}", *arguments))
    assert last_json(done[-1])["status"] == "unchanged"
    done.append(run_job("recommend_items", "--lake=s3://no-such-bucket/lake", *arguments))
    assert done[-1].returncode in (4, 75), done[-1].stderr
    assert "canary" not in "".join(one.stdout + one.stderr for one in done)
    kept = {name: content for name, content in objects(store, "lists") if not name.endswith(".parquet")}
    for what in ("_status/recommend_items", "_delta_log/"):
        assert [name for name in kept if what in name], what
    assert not [name for name, content in kept.items() if b"canary" in content]


@pytest.mark.slow
def test_a_lake_on_s3_holds_what_a_local_one_does(spark, store, shop, tiny_bert, tmp_path, monkeypatch):
    lake, where = bucket(store, "steady"), environment(store)
    (tmp_path / "events").mkdir()
    log = ["--conf", "spark.eventLog.enabled=true", "--conf", f"spark.eventLog.dir={tmp_path / 'events'}"]
    first = submit(*refresh(shop, lake, tiny_bert), "--", *log, **where)
    assert first.returncode == 0, first.stderr
    for name, value in where.items():  # one job is spark-submit's; the others need no JVM of their own
        monkeypatch.setenv(name, value)
        monkeypatch.setitem(spark.sparkContext.environment, name, value)  # of Python workers
    local = run_job(*refresh(shop, str(tmp_path / "lake"), tiny_bert))
    assert local.returncode == 0, local.stderr
    assert not [path for path in (tmp_path / "lake").rglob("*.json") if "canary" in path.read_text(encoding="utf-8")]
    assert rows_of(lake, where) == rows_of(str(tmp_path / "lake"))
    second = run_job(*refresh(shop, lake, tiny_bert))
    assert last_json(second)["status"] == "unchanged"
    report = run_job("render_report", f"--lake={lake}", "--run_date=2024-03-01")
    assert report.returncode == 0, report.stderr
    failed = run_job(*refresh(shop, "s3://no-such-bucket/lake", tiny_bert))
    assert failed.returncode in (4, 75), failed.stderr
    for done in (first, second, report, failed):
        assert "canary" not in done.stdout + done.stderr
    kept = {name: content for name, content in objects(store, "steady") if not name.endswith(".parquet")}
    for what in ("_status/refresh_lake", "_reports/", "_delta_log/"):
        assert [name for name in kept if what in name], what
    logs = [path for path in (tmp_path / "events").rglob("*") if path.is_file()]
    assert logs
    assert not [name for name, content in kept.items() if b"canary" in content]
    assert not [path for path in logs if b"canary" in path.read_bytes()]


@pytest.mark.slow
def test_a_store_that_fails_now_and_then_is_asked_again(flaky, store, shop, tiny_bert, tmp_path):
    lake = bucket(store, "flaky")
    done = submit(*refresh(shop, lake, tiny_bert), **environment(flaky))
    assert done.returncode == 0, done.stderr
    assert Flaky.failed > 10
    local = submit(*refresh(shop, str(tmp_path / "lake"), tiny_bert))
    assert local.returncode == 0
    assert rows_of(lake, environment(store)) == rows_of(str(tmp_path / "lake"))
