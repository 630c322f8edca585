"""Who is forgotten is in no table that the lake can have, and in no exported copy after the next export."""

import json
from datetime import date, datetime
from pathlib import Path

import pytest

from recsys_spark.lake.lake import Lake
from recsys_spark.privacy.options import ForgetOptions
from recsys_spark.privacy.rules import KEEP_TOTALS, RULES
from recsys_spark.privacy.steps.forget_users import forget_users
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.contract import REASONS
from recsys_spark.tables.schemas import FORGOTTEN, RECOMMENDATIONS, TABLES
from tests.bench.jobs_here import run_job
from tests.bench.lake_files import files_that_name
from tests.bench.servers import redis_server
from tests.bench.small_lake import DAY
from tests.bench.stored_rows import commit_rows

PEOPLE, THINGS = ("hermit", "rower"), ("oldpot", "newpot")

VALUES = {
    "string": "x", "double": 0.5, "float": 0.5, "int": 1, "bigint": 1, "date": date(2024, 3, 1),
    "timestamp": datetime(2024, 2, 1), "array<float>": [1.0, 0.0], "array<double>": [1.0], "array<string>": ["x"],
    "array<bigint>": [1], REASONS: None,
}  # fmt: skip


def holds_ids(table):
    return any(name.endswith("_id") or name == "row" for name in table.columns)


def value_of(name, kind, at):
    """In every column that is named like an id, of users unless it says items: in later columns too."""
    if name == "row":
        return json.dumps({"user": PEOPLE[at]})
    if name.endswith("_id"):
        return (THINGS if name in ("item_id", "neighbor_id") else PEOPLE)[at]
    return VALUES[kind]


def row_of(table, at):
    return tuple(value_of(name, kind, at) for name, kind in table.columns.items())


def test_no_table_that_there_is_names_them_afterwards(spark, tmp_path):
    """By reflection: a table that is added later, and forgotten in the rules, fails here."""
    lake = Lake(str(tmp_path / "lake"))
    for table in TABLES.values():
        if table is not FORGOTTEN:
            commit_rows(lake, table, [row_of(table, 0), row_of(table, 1)], f"put {table.name}")
    for stream_state in ("_blocks/sorted/4f2a", "_reports"):
        (Path(lake.uri) / stream_state).mkdir(parents=True)
        (Path(lake.uri) / stream_state / "part").write_bytes(b"hermit")
    named = [table.name for table in TABLES.values() if holds_ids(table)]
    assert {path.split("/")[0] for path in files_that_name(Path(lake.uri), "hermit")} >= {
        name for name in named if {"user_id", "row"} & {*TABLES[name].columns}
    }
    options = ForgetOptions(lake=lake.uri, user_ids="hermit", item_ids="oldpot")
    proof = forget_users(Run("forget_users", lake, Progress()), options)["proof"]
    assert files_that_name(Path(lake.uri), "hermit") == files_that_name(Path(lake.uri), "oldpot") == []
    assert proof["rows_left_in_files"] == {}
    for name in named:
        assert lake.rows(TABLES[name]) == 1, f"{name}: the rows of others stay"
    assert {name for name in TABLES if KEEP_TOTALS in RULES[name]} == {*proof["kept"]["totals"]}


def forgotten_in_copies(lake, copies, *arguments):
    """Export, forget, export: what ``copies()`` names before and after."""
    rows = [(user, "a1", 0.5, 1, DAY, "m", None, None) for user in PEOPLE]
    commit_rows(lake, RECOMMENDATIONS, rows, "lists")
    named = []
    for step in ("export", "forget", "export"):
        if step == "forget":
            forget_users(Run("forget_users", lake, Progress()), ForgetOptions(lake=lake.uri, user_ids="hermit"))
        else:
            done = run_job("export_recommendations", f"--lake={lake.uri}", *arguments)
            assert done.returncode == 0, done.stderr
        named.append(copies())
    return named


@pytest.mark.parametrize("form", ["jsonl"])
def test_the_next_export_removes_them_from_a_folder(spark, tmp_path, form):
    folder, lake = tmp_path / "copies", Lake(str(tmp_path / "lake"))
    arguments = ["--to=folder", f"--folder={folder}", f"--folder_format={form}", "--buckets=4"]

    def copies():
        return {name: bool(files_that_name(folder, name)) for name in PEOPLE}

    before, still, after = forgotten_in_copies(lake, copies, *arguments)
    assert before == still == {"hermit": True, "rower": True}, "forgetting reaches the lake only"
    assert after == {"hermit": False, "rower": True}


@pytest.mark.slow
def test_the_next_export_removes_them_from_redis(spark, tmp_path, monkeypatch):
    from redis import Redis

    with redis_server() as url:
        monkeypatch.setenv("RECSYS_REDIS_URL", url)
        client = Redis.from_url(url, decode_responses=True)

        def copies():
            return {name: bool(client.exists(f"recs:{name}")) for name in PEOPLE}

        *_, after = forgotten_in_copies(Lake(str(tmp_path / "lake")), copies, "--to=redis")
    assert after == {"hermit": False, "rower": True}
