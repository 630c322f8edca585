"""Exports to real servers: what is read back, what is written again, what an export that stops leaves."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_spark.errors import Terminated
from recsys_spark.export.steps import follow
from recsys_spark.lake.provenance import Provenance
from recsys_spark.tables.schemas import ITEM_NEIGHBORS, ITEM_VECTORS, LIVE_RECOMMENDATIONS, RECOMMENDATIONS
from tests.bench.jobs_here import run_driver, run_job
from tests.bench.servers import PASSWORD, QUOTED, free_port, postgres_server, redis_server
from tests.bench.small_lake import DAY, Bench
from tests.bench.spark_submit import last_json

JOB = "export_recommendations"

USERS = {f"u{number}": [("a1", 0.75), ("a2", 0.5)] for number in range(98)} | {'"é,\n☕': [("a3", -1.5)], "*": []}
USERS["*"] = [("a2", 0.25)]


@pytest.fixture(scope="module")
def redis_url():
    with redis_server() as url:
        yield url


@pytest.fixture(scope="module")
def postgres_url():
    with postgres_server() as url:
        yield url


class Redis:
    """What an application reads from Redis."""

    variable = "RECSYS_REDIS_URL"

    def __init__(self, url, folder):
        from redis import Redis

        self.url, self.client = url, Redis.from_url(url, decode_responses=True)
        self.client.flushdb()
        self.arguments = ["--to=redis", "--redis_prefix=shop:"]

    def lists(self, name="recs"):
        keys = list(self.client.scan_iter(f"shop:{name}:*"))
        return {key.removeprefix(f"shop:{name}:"): json.loads(self.client.get(key)) for key in keys}

    def version(self, name="recs"):
        stored = self.client.get(f"shop:{name}.version")
        return stored and json.loads(stored)["version"]


class Postgres:
    """What an application reads from PostgreSQL."""

    variable = "RECSYS_POSTGRES_URL"

    def __init__(self, url, folder):
        import psycopg

        self.url, self.connection = url, psycopg.connect(url, autocommit=True)
        self.connection.execute("DROP SCHEMA IF EXISTS shop CASCADE")
        self.arguments = ["--to=postgres", "--postgres_schema=shop"]

    def lists(self, name="recommendations"):
        return dict(self.connection.execute(f"SELECT * FROM shop.{name}").fetchall())

    def version(self, name="recommendations"):
        query = "SELECT record FROM shop.exports WHERE collection = %s"
        exists = self.connection.execute("SELECT to_regclass('shop.exports')").fetchone()[0]
        row = exists and self.connection.execute(query, [name]).fetchone()
        return row[0]["version"] if row else None


class Folder:
    """What an application reads from a folder."""

    variable, url, file_format = "RECSYS_NOTHING", "", "parquet"

    def __init__(self, url, folder):
        self.folder = folder / "exported"
        self.arguments = ["--to=folder", f"--folder={self.folder}", f"--folder_format={self.file_format}"]
        self.arguments += ["--buckets=7"]

    def manifest(self, name="recommendations"):
        path = self.folder / f"{name}.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def lists(self, name="recommendations"):
        files = self.manifest(name)["files"].values()
        assert {path.name for path in (self.folder / name).iterdir()} == {*files}
        key = {"recommendations": "user_id"}.get(name, "item_id")
        return dict(pair for file in files for pair in self.pairs(self.folder / name / file, key))

    def pairs(self, path, key):
        rows = pq.read_table(path).to_pylist()
        entries = [[{k: v for k, v in e.items() if v is not None} for e in row["items"]] for row in rows]
        return [(row[key], items) for row, items in zip(rows, entries, strict=True)]

    def version(self, name="recommendations"):
        return self.manifest(name) and self.manifest(name)["version"]["version"]


class Lines(Folder):
    file_format = "jsonl"

    def pairs(self, path, key):
        rows = map(json.loads, path.read_text().splitlines())
        return [(row[key], row["items"]) for row in rows]


class Arrow(Folder):
    file_format = "arrow"

    def pairs(self, path, key):
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        assert table["id"].to_pylist() == sorted(table["id"].to_pylist())
        return [(row["id"].decode(), json.loads(row["value"])) for row in table.to_pylist()]


TARGETS = [Redis, Postgres, Folder, Lines, Arrow]


class Shop(Bench):
    """A lake with lists, and its export to one target."""

    def __init__(self, spark, folder, target):
        super().__init__(spark, folder)
        self.target = target

    def publish(self, users):
        rows = [
            (user, item, score, rank, DAY, "m-1")
            for user, items in users.items()
            for rank, (item, score) in enumerate(items, 1)
        ]
        self.put(RECOMMENDATIONS, *rows, provenance=Provenance(run_date=DAY))

    def export(self, *arguments):
        done = run_job(JOB, f"--lake={self.lake.uri}", *self.target.arguments, *arguments)
        assert done.returncode == 0, done.stderr
        return last_json(done)

    def figures(self, *arguments, table="recommendations"):
        exported = self.export(*arguments)["exported"][table]
        return {name: exported[name] for name in ("written", "removed") if name in exported}

    def version(self):
        return self.lake.last_commit(RECOMMENDATIONS).version


def documents(users):
    return {user: [{"item_id": item, "score": score} for item, score in items] for user, items in users.items()}


@pytest.fixture
def shop(request, spark, tmp_path, monkeypatch):
    """The target is the parameter; its server is started by the first test that needs it."""
    kind = request.param
    server = {Redis: "redis_url", Postgres: "postgres_url"}.get(kind)
    url = request.getfixturevalue(server) if server else ""
    monkeypatch.setenv(kind.variable, url)
    return Shop(spark, tmp_path, kind(url, tmp_path))


def names(kind):
    return kind.__name__


@pytest.mark.parametrize("shop", TARGETS, indirect=True, ids=names)
def test_what_is_read_back_is_the_lists_and_only_what_has_changed_is_written_again(shop):
    shop.publish(USERS)
    assert shop.export("--dry_run")["exported"]["recommendations"]["made"].startswith("all")
    assert shop.target.version() is None
    assert shop.figures()["written"] == len(USERS) == 100
    assert shop.target.lists() == documents(USERS)
    assert shop.target.version() == shop.version()
    again = shop.export()
    assert (again["status"], again["exported"]["recommendations"]["made"]) == ("unchanged", "none")

    changed = USERS | {"u7": [("a3", 0.5)], "new": [("a1", 2.0)]}
    del changed["u9"]
    shop.publish(changed)
    figures = shop.figures()
    assert shop.target.lists() == documents(changed)
    assert shop.target.version() == shop.version()
    if isinstance(shop.target, Folder):  # whole files: those of the three users
        assert figures["written"] < 3 * 100 / 7 * 1.5
    else:
        assert figures == {"written": 2, "removed": 1}


@pytest.mark.parametrize("shop", [Redis, Arrow], indirect=True, ids=names)
def test_live_lists_take_the_place_of_others_until_the_next_night(shop):
    def live(user, items, sequence):
        rows = [(user, *entry, rank, DAY, "m-1", sequence) for rank, entry in enumerate(items, 1)]
        empty = (user, None, None, 0, DAY, "m-1", sequence)
        shop.put(LIVE_RECOMMENDATIONS, *(rows or [empty]), append=True)

    shop.publish(USERS)
    shop.export("--live=true")
    live("u1", [("a9", 0.5)], 1)
    live("u2", [("a8", 0.5)], 1)
    live("u1", [("a3", 0.5), ("a1", 0.25)], 2)
    live("u3", [], 2)
    figures = shop.figures("--live=true")
    now = documents(USERS | {"u1": [("a3", 0.5), ("a1", 0.25)], "u2": [("a8", 0.5)]})
    del now["u3"]
    assert shop.target.lists() == now
    if shop.target.variable == "RECSYS_REDIS_URL":
        assert figures == {"written": 2, "removed": 1}
    assert shop.export("--live=true")["status"] == "unchanged"
    shop.export()
    assert shop.target.lists() == documents(USERS), "without --live, the lists of the night"


@pytest.mark.parametrize("shop", [Redis], indirect=True, ids=names)
def test_with_every_it_exports_what_has_changed_until_sigterm(shop, monkeypatch):
    """A target that is away for a while does not end it."""
    shop.publish(USERS)
    changed, waits = USERS | {"u1": [("a9", 0.5)]}, []

    def sleep(seconds):
        waits.append(seconds)
        if len(waits) == 1:
            assert shop.target.lists() == documents(USERS)
            shop.publish(changed)
            monkeypatch.setenv("RECSYS_FAULTS", "flip.before:recommendations=fail")
        elif len(waits) == 2:
            monkeypatch.delenv("RECSYS_FAULTS")
        else:
            raise Terminated

    monkeypatch.setattr(follow, "sleep", sleep)
    ended = run_job(JOB, f"--lake={shop.lake.uri}", "--every=5s", *shop.target.arguments)
    assert ended.returncode == 143
    assert shop.target.lists() == documents(changed)
    assert "next attempt in 5 s" in ended.stderr


@pytest.mark.parametrize("shop", [Redis, Postgres, Arrow], indirect=True, ids=names)
def test_a_kill_between_writing_and_flipping_leaves_the_old_version_and_whole_lists(spark, shop):
    shop.publish(USERS)
    shop.export()
    old = shop.version()
    changed = {user: [("a9", 1.0)] for user in USERS}
    shop.publish(changed)
    arguments = [f"--lake={shop.lake.uri}", *shop.target.arguments]
    killed = run_driver(spark, JOB, *arguments, RECSYS_FAULTS="flip.before:recommendations=kill")
    assert killed.returncode == -9
    assert shop.target.version() == old
    if not isinstance(shop.target, Folder):
        was, now = documents(USERS), documents(changed)
        assert all(items in (was[user], now[user]) for user, items in shop.target.lists().items())
    resumed = shop.figures()
    assert shop.target.version() == shop.version()
    assert shop.target.lists() == documents(changed)
    assert resumed["written"] == (100 if isinstance(shop.target, Postgres) else 0)  # its copy was rolled back


@pytest.mark.parametrize("shop", [Redis], indirect=True, ids=names)
def test_after_an_export_that_stopped_a_list_that_went_back_is_put_back(shop, monkeypatch):
    shop.publish(USERS)
    shop.export()
    shop.publish(USERS | {"u1": [("a9", 1.0)], "only then": [("a1", 1.0)]})
    monkeypatch.setenv("RECSYS_FAULTS", "flip.before:recommendations=fail")
    stopped = run_job(JOB, f"--lake={shop.lake.uri}", *shop.target.arguments)
    assert stopped.returncode == 75
    assert "only then" in shop.target.lists()
    monkeypatch.delenv("RECSYS_FAULTS")
    shop.publish(USERS | {"u2": [("a3", 1.0)]})
    assert shop.figures() == {"written": 2, "removed": 1}
    assert shop.target.lists() == documents(USERS | {"u2": [("a3", 1.0)]})


@pytest.mark.parametrize("shop", [Redis, Postgres], indirect=True, ids=names)
def test_without_the_version_that_a_target_holds_all_lists_are_compared(shop, tmp_path):
    shop.publish(USERS)
    shop.export()
    shutil.rmtree(tmp_path / "lake" / "recommendations")
    rest = {user: items for user, items in USERS.items() if user != "u5"} | {"u6": [("a3", 0.5)]}
    shop.publish(rest)
    assert shop.figures() == {"written": 1, "removed": 1}
    assert shop.target.lists() == documents(rest)


@pytest.mark.parametrize("shop", [Redis, Postgres], indirect=True, ids=names)
def test_full_repairs_what_somebody_else_has_changed(shop):
    shop.publish(USERS)
    shop.export()
    if isinstance(shop.target, Redis):
        shop.target.client.set("shop:recs:u1", "[]")
    else:
        shop.target.connection.execute("UPDATE shop.recommendations SET items = '[]' WHERE user_id = 'u1'")
    assert shop.figures() == {"written": 0, "removed": 0}
    assert shop.figures("--full") == {"written": 1, "removed": 0}
    assert shop.target.lists() == documents(USERS)


@pytest.mark.parametrize("shop", [Redis, Postgres], indirect=True, ids=names)
def test_of_two_exports_at_once_the_one_that_was_overtaken_ends_with_5(shop, monkeypatch):
    from recsys_spark.export.steps import postgres_target, redis_target

    shop.publish(USERS)

    def overtake(point, table):
        if isinstance(shop.target, Redis):
            shop.target.client.set("shop:recs.exporting", '{"content_id": "another", "export": "another"}')
        else:
            other.append(run_job(JOB, f"--lake={shop.lake.uri}", *shop.target.arguments).returncode)

    other = []
    module = redis_target if isinstance(shop.target, Redis) else postgres_target
    monkeypatch.setattr(module, "failpoint", overtake)
    done = run_job(JOB, f"--lake={shop.lake.uri}", *shop.target.arguments)
    assert [done.returncode, *other] == ([5] if isinstance(shop.target, Redis) else [0, 5])


@pytest.mark.parametrize("shop", [Redis, Postgres, Lines], indirect=True, ids=names)
def test_neighbours_of_items_are_exported_where_the_lake_has_them(shop):
    shop.publish({"u1": [("a1", 0.5)]})
    shop.put(ITEM_NEIGHBORS, ("a1", "a2", 0.5, 1, "m-1"), ("a1", "a3", 0.25, 2, "m-1"), ("a2", "a1", 0.5, 1, "m-1"))
    assert shop.figures(table="item_neighbors")["written"] == 2
    read = shop.target.lists("neighbors" if isinstance(shop.target, Redis) else "item_neighbors")
    assert read == documents({"a1": [("a2", 0.5), ("a3", 0.25)], "a2": [("a1", 0.5)]})


# --- bad input ---


def failed(*arguments):
    done = run_job(JOB, *arguments)
    return done.returncode, done.stderr


@pytest.mark.parametrize("shop", [Redis], indirect=True, ids=names)
def test_a_server_that_is_down_is_a_passing_fault_and_what_was_exported_stays(shop, monkeypatch):
    shop.publish(USERS)
    for name, scheme in (("redis", "redis"), ("postgres", "postgresql")):
        address = f"{scheme}://recsys:{QUOTED}@127.0.0.1:{free_port()}/0"
        monkeypatch.setenv(f"RECSYS_{name.upper()}_URL", address)
        code, text = failed(f"--lake={shop.lake.uri}", f"--to={name}")
        assert code == 75
        assert f"RECSYS_{name.upper()}_URL" in text
        assert "canary" not in text


@pytest.mark.parametrize("shop", [Redis], indirect=True, ids=names)
def test_a_server_that_goes_down_within_an_export_leaves_the_old_version(shop, monkeypatch):
    from recsys_spark.export.steps import redis_target

    port = free_port()
    shop.publish(USERS)
    with redis_server(port) as url:
        monkeypatch.setenv("RECSYS_REDIS_URL", url)
        shop.target = Redis(url, None)
        shop.export()
        old = shop.version()
        shop.publish(USERS | {"u1": [("a9", 1.0)]})
        monkeypatch.setattr(redis_target, "failpoint", lambda *_: shop.target.client.config_set("maxmemory", 1))
        code, text = failed(f"--lake={shop.lake.uri}", *shop.target.arguments)
        assert (code, "memory" in text) == (75, True)
        assert shop.target.version() == old


@pytest.mark.parametrize("shop", [Redis, Postgres], indirect=True, ids=names)
def test_a_wrong_password_is_an_input_error_that_does_not_show_it(shop, monkeypatch):
    shop.publish(USERS)
    monkeypatch.setenv(shop.target.variable, shop.target.url.replace("3a@", "4-other-canary@"))
    code, text = failed(f"--lake={shop.lake.uri}", *shop.target.arguments)
    assert code == 4
    assert "canary" not in text


def test_missing_or_empty_lists_name_the_job_that_makes_them(spark, tmp_path):
    bench = Bench(spark, tmp_path)
    target = ["--to=folder", f"--folder={tmp_path / 'out'}"]
    assert failed(f"--lake={bench.lake.uri}", *target) == (
        4,
        f"error: table 'recommendations' is missing in lake {bench.lake.uri}: run recommend_items first\n",
    )
    bench.put(RECOMMENDATIONS)
    assert "is empty" in failed(f"--lake={bench.lake.uri}", *target)[1]
    assert "run build_item_vectors first" in failed(f"--lake={bench.lake.uri}", "--to=pgvector")[1]


def test_a_mistake_in_the_address_or_the_keys_is_named(spark, tmp_path, monkeypatch):
    bench = Bench(spark, tmp_path)
    bench.put(RECOMMENDATIONS, ("u1", "a1", 0.5, 1, DAY, "m-1"))
    lake = f"--lake={bench.lake.uri}"
    monkeypatch.delenv("RECSYS_REDIS_URL", raising=False)
    assert failed(lake, "--to=redis")[0] == 2
    for address, words in (
        (f"http://:{QUOTED}@host", "begins with 'http://'"),
        (f"{PASSWORD}@host", "has no scheme"),
        (f"redis://:{QUOTED}@host:port", "is not an address"),
    ):
        monkeypatch.setenv("RECSYS_REDIS_URL", address)
        code, text = failed(lake, "--to=redis")
        assert code == 2
        assert words in text
        assert "canary" not in text
    assert "leave them out: folder" in failed(lake, "--to=redis", "--folder=/tmp/x")[1]
    assert "needs a folder" in failed(lake, "--to=folder")[1]
    assert "is in the lake" in failed(lake, "--to=folder", f"--folder={bench.lake.uri}/x")[1]
    monkeypatch.setattr("recsys_spark.runtime.servers.importlib.util.find_spec", lambda name: None)
    assert "-m pip install 'redis>=5'" in failed(lake, "--to=redis")[1]


@pytest.mark.parametrize("shop", [pytest.param(Redis, marks=pytest.mark.slow), Postgres], indirect=True, ids=names)
def test_the_password_is_in_no_output_and_no_file(spark, shop, tmp_path, capfd):
    shop.publish(USERS)
    arguments = [f"--lake={shop.lake.uri}", *shop.target.arguments]
    runs = [run_driver(spark, JOB, *arguments)]
    shop.publish({"nul\0": [("a1", 0.5)], "u1": [("a2", 0.5)]})  # PostgreSQL refuses it, within a task
    runs.append(run_driver(spark, JOB, *arguments))
    assert [run.returncode for run in runs] == ([0, 0] if isinstance(shop.target, Redis) else [0, 4])
    texts = [run.stdout + run.stderr for run in runs] + [*capfd.readouterr()]
    texts += [path.read_text() for path in (tmp_path / "lake" / "_status").rglob("*") if path.is_file()]
    assert len(texts) > 4
    assert not [text for text in texts if PASSWORD in text or QUOTED in text or "canary" in text]


# --- item vectors ---


def test_item_vectors_go_to_pgvector_with_an_index_and_say_what_they_are(spark, tmp_path, monkeypatch):
    import psycopg

    def export():
        done = run_job(JOB, f"--lake={bench.lake.uri}", "--to=pgvector")
        assert done.returncode == 0, done.stderr
        return last_json(done)["exported"]["item_vectors"]

    bench = Bench(spark, tmp_path)
    bench.put_vectors("it's m-1")
    with postgres_server(vectors=True) as url:
        monkeypatch.setenv("RECSYS_POSTGRES_URL", url)
        assert export()["written"] == 3
        connection = psycopg.connect(url, autocommit=True)
        nearest = "SELECT item_id FROM recsys.item_vectors ORDER BY embedding <=> '[1, 0.1]' LIMIT 2"
        assert connection.execute(nearest).fetchall() == [("a1",), ("a2",)]
        about = "SELECT obj_description('recsys.item_vectors'::regclass)"
        assert connection.execute(about).fetchone() == ("2 dimensions, unit length, model it's m-1",)
        indexes = "SELECT indexdef FROM pg_indexes WHERE indexname = 'item_vectors_hnsw'"
        assert "hnsw" in connection.execute(indexes).fetchone()[0]
        assert export()["made"] == "none"
        bench.put_vectors("m-2", {"a1": [1.0, 0.0, 0.0], "a4": [0.0, 0.0, 1.0]})  # another model, another dimension
        assert export()["written"] == 2
        stored = dict(connection.execute("SELECT item_id, embedding::text FROM recsys.item_vectors").fetchall())
        assert stored == {"a1": "[1,0,0]", "a4": "[0,0,1]"}
    assert ITEM_VECTORS.columns.keys() >= {"item_id", "embedding"}
