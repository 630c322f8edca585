"""Runs at once: whoever cannot commit says so, and what was committed stays, for every reader of every version."""

import os
import subprocess
from pathlib import Path
from threading import Barrier, Thread

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.transaction import AddAction
from pyarrow.fs import FileSystem

from recsys_spark.errors import ConflictError
from recsys_spark.lake.commits import Staged
from recsys_spark.lake.data_files import write_files
from recsys_spark.lake.lake import Lake
from recsys_spark.tables.schemas import USERS
from tests.bench.object_store import bucket, environment
from tests.bench.refreshes import CLEAN, refresh, rows_of
from tests.bench.spark_submit import submit
from tests.conftest import ROOT


def started(arguments: list[str]) -> subprocess.Popen[bytes]:
    clean = {k: v for k, v in os.environ.items() if k not in CLEAN}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([str(ROOT / "spark-submit.sh"), *arguments], env=clean, **quiet)


def names(lake: Lake, version: int) -> set[str]:
    return set(DeltaTable(lake.table_uri(USERS), version=version).to_pyarrow_table()["user_id"].to_pylist())


def staged(lake: Lake, users: set[str], base: int | None) -> Staged:
    """As a task of a stage writes it, without Spark."""
    rows = [dict.fromkeys(USERS.columns) | {"user_id": name} for name in sorted(users)]
    filesystem, folder = FileSystem.from_uri(lake.table_uri(USERS))
    filesystem.create_dir(folder, recursive=True)
    batch = pa.RecordBatch.from_pylist(rows, USERS.arrow_schema)
    [told] = next(write_files(iter([batch]), None, lake.table_uri(USERS), USERS.arrow_schema, [])).to_pylist()
    action = AddAction(told["path"], told["bytes"], {}, 0, True, told["stats"])
    return Staged(USERS, [action], told["rows"], [], None, base)


class Writer(Thread):
    """Reads what the table shows, adds a name of its own to it, commits; round after round, whatever the others do."""

    def __init__(self, uri: str, name: str, rounds: int, together: Barrier) -> None:
        super().__init__(daemon=True)
        self._lake, self._name, self._rounds, self._together = Lake(uri), name, rounds, together
        self.done: dict[int, str] = {}
        self.refused, self.error = 0, None

    def run(self) -> None:
        try:
            for number in range(self._rounds):
                self._together.wait(60)
                self._add(f"{self._name}-{number}")
        except Exception as error:
            self.error = error
            self._together.abort()

    def _add(self, name: str) -> None:
        head = self._lake.last_commit(USERS)
        mine = staged(self._lake, names(self._lake, head.version) | {name}, head.version)
        try:
            self.done[self._lake.commit(mine, name)] = name
        except ConflictError:
            self.refused += 1


def check_race(uri: str, writers: int, rounds: int) -> None:
    lake = Lake(uri)
    lake.plain.check_writable()
    lake.commit(staged(lake, {"first"}, None), "first")
    together = Barrier(writers)
    racing = [Writer(uri, f"w{number}", rounds, together) for number in range(writers)]
    for writer in racing:
        writer.start()
    for writer in racing:
        writer.join()
    assert [writer.error for writer in racing] == [None] * writers
    done = {version: name for writer in racing for version, name in writer.done.items()}
    assert len(done) == sum(len(writer.done) for writer in racing), "two runs were told the same version"
    assert sorted(done) == list(range(1, lake.version(USERS) + 1)), "every commit was somebody's, and told to him"
    for version, name in done.items():
        assert names(lake, version) == names(lake, version - 1) | {name}, "an update was lost"
    assert len(done) >= rounds, "of every round at least one commits"
    assert sum(writer.refused for writer in racing) > 0, "they never met: this shows nothing"


def test_no_update_is_lost_in_a_race_of_writers(tmp_path: Path):
    check_race(str(tmp_path / "lake"), writers=3, rounds=6)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["local", "s3"])
def test_no_update_is_lost_in_a_long_race(where, store, tmp_path, monkeypatch):  # noqa: F811
    for name, value in environment(store).items():
        monkeypatch.setenv(name, value)
    check_race(str(tmp_path / "lake") if where == "local" else bucket(store, "race"), writers=4, rounds=20)


@pytest.mark.slow
def test_of_two_refreshes_at_once_every_version_is_whole(shop, tiny_bert, tmp_path: Path):
    lake = tmp_path / "lake"
    runs = [started(refresh(shop, lake, tiny_bert)) for _ in range(2)]
    assert sorted(run.wait() for run in runs) in ([0, 0], [0, 5])
    done = submit(*refresh(shop, tmp_path / "alone", tiny_bert))
    assert done.returncode == 0, done.stderr
    for version in range(DeltaTable(str(lake / "recommendations")).version() + 1):
        rows = DeltaTable(str(lake / "recommendations"), version=version).to_pyarrow_table()
        shown = rows.sort_by([("user_id", "ascending"), ("rank", "ascending")]).to_pylist()
        assert shown == rows_of(tmp_path / "alone")
