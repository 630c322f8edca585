#!/usr/bin/env python3
"""Writers, a killer and a reader on one lake for some minutes; then the history is judged. Prints one JSON line last.

    tests/faults/soak.py --minutes=20 [--seed=7] [--writers=3] [--jobs_every=60] [--s3]

Writers are processes that publish through ``Lake`` as a refresh does: read a version, write files, replace it (or add
to a table that grows), again and again. The killer ends one of them with SIGKILL at a random moment and starts it
again. A reader reads all the time. Every ``--jobs_every`` seconds (0: never) a real refresh of a small shop with one
more event runs beside them, is killed at a random moment, and run again to its end. ``--s3`` puts the writers' lake on
a local moto server. Exits with 1 where a commit is lost or doubled, or a read is not exactly one version; see
soak_history.py.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Event, Thread

if __name__ == "__main__" and "RECSYS_BENCHMARK" not in os.environ:  # in the environment that `run` sets up
    os.execv(Path(__file__).parents[1] / "benchmarks" / "run", ["run", *sys.argv])

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.transaction import AddAction
from pyarrow.fs import FileSystem

from recsys_spark.errors import ConflictError
from recsys_spark.lake.data_files import write_files
from recsys_spark.lake.lake import Lake, Staged
from recsys_spark.tables.schemas import ITEM_WEIGHTS, Table
from tests.conftest import tiny_model, write_shop
from tests.faults.soak_history import Counts, counts_of, faults_of, history_of

ROOT = Path(__file__).resolve().parents[2]
SNAPSHOT = Table("snapshot", ITEM_WEIGHTS.columns, ITEM_WEIGHTS.key)
LOG = Table("log", ITEM_WEIGHTS.columns, ITEM_WEIGHTS.key)


class Notes:
    """Lines that outlive their process."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("a", encoding="utf-8")

    def add(self, *told: object) -> None:
        self._stream.write(json.dumps(told) + "\n")
        self._stream.flush()


def staged(lake: Lake, table: Table, rows: list[tuple[str, str, float]], base: int | None) -> Staged:
    """Rows written as a task writes them, and named as the driver does."""
    filesystem, path = FileSystem.from_uri(lake.table_uri(table))
    filesystem.create_dir(path, recursive=True)
    batch = pa.RecordBatch.from_pylist([dict(zip(table.columns, row, strict=True)) for row in rows], table.arrow_schema)
    told = [row for part in write_files(iter([batch]), None, lake.table_uri(table), table.arrow_schema, [])
            for row in part.to_pylist()]  # fmt: skip
    now = int(time.time() * 1000)
    actions = [AddAction(row["path"], row["bytes"], {}, now, True, row["stats"]) for row in told]
    return Staged(table, actions, len(rows), [], None, base)


def shown(lake: Lake) -> tuple[int | None, Counts]:
    """The newest version of the snapshot, and what it holds."""
    if lake.version(SNAPSHOT) is None:
        return None, {}
    delta = DeltaTable(lake.table_uri(SNAPSHOT))
    return delta.version(), counts_of(delta.to_pyarrow_table().to_pylist())


def write(uri: str, name: str, notes_at: str, stop: str) -> None:
    """One update of each table after the other. A writer that comes back goes on from what the lake shows."""
    lake, notes = Lake(uri), Notes(Path(notes_at))
    number = 1
    while lake.has_commit(LOG, f"log:{name}:{number}"):
        number += 1
    while not Path(stop).exists():
        _replace(lake, name, notes)
        key = f"log:{name}:{number}"
        notes.add("tried", "log", name, number)
        if not lake.has_commit(LOG, key):  # the run that was killed may have committed it
            lake.commit(staged(lake, LOG, [(name, str(number), 1.0)], None), key, append=True)
        notes.add("made", "log", name, number)
        number += 1


def _replace(lake: Lake, name: str, notes: Notes) -> None:
    base, counts = shown(lake)
    number = counts.get(name, 0) + 1
    files = staged(lake, SNAPSHOT, [(n, "1", float(c)) for n, c in (counts | {name: number}).items()], base)
    notes.add("tried", "snapshot", name, number)
    try:
        lake.commit(files, f"snapshot:{name}:{number}")
    except ConflictError:
        notes.add("tried", "conflict", name, number)
        lake.discard(files)
    else:
        notes.add("made", "snapshot", name, number)


def read(uri: str, notes_at: str, stop: str) -> None:
    """Version and content of the snapshot, again and again."""
    lake, notes = Lake(uri), Notes(Path(notes_at))
    while not Path(stop).exists():
        version, counts = shown(lake)
        if version is not None:
            notes.add("read", version, counts)
        time.sleep(0.01)  # one of the two cores is for the writers


class Crew:
    """The processes on one lake, and who kills them."""

    def __init__(self, uri: str, folder: Path, writers: int, seed: int) -> None:
        self._uri, self._folder, self._random = uri, folder, random.Random(seed)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.faults.soak"])
        self.kills, self.unkillable = 0, list[str]()
        self._writers = {f"writer{n}": self._started(f"writer{n}") for n in range(writers)}
        arguments = (uri, str(folder / "reader.json"), str(folder / "stop"))
        self._reader = self._context.Process(target=read, args=arguments)
        self._reader.start()

    def _started(self, name: str) -> multiprocessing.Process:
        arguments = (self._uri, name, str(self._folder / f"{name}.json"), str(self._folder / "stop"))
        process = self._context.Process(target=write, args=arguments)
        process.start()
        return process

    def disturb(self) -> None:
        """Wait for a random moment, then kill a writer there and start it again."""
        time.sleep(self._random.uniform(0.05, 1.5))
        name = self._random.choice(sorted(self._writers))
        process = self._writers[name]
        if not process.is_alive():
            self.unkillable.append(f"{name} ended by itself with exit code {process.exitcode}")
        else:
            os.kill(process.pid, signal.SIGKILL)
            self.kills += 1
        process.join()
        self._writers[name] = self._started(name)

    def stop(self) -> list[str]:
        """Let all come to their ends; what went wrong with them."""
        (self._folder / "stop").touch()
        for process in (*self._writers.values(), self._reader):
            process.join()
        ends = {name: process.exitcode for name, process in (self._writers | {"reader": self._reader}).items()}
        return self.unkillable + [f"{name} ended with exit code {code}" for name, code in ends.items() if code]


class Refreshes(Thread):
    """Real refreshes of a small shop that grows by an event each time; the first run of each is killed."""

    def __init__(self, folder: Path, seed: int, every: float) -> None:
        super().__init__()
        self.runs, self.killed, self.faults, self.over = 0, 0, list[str](), Event()
        self._folder, self._random, self._every, self._seconds = folder, random.Random(seed), every, 20.0
        self._shop, self._model = write_shop(folder / "shop"), tiny_model(folder / "model", "bert")

    def run(self) -> None:
        try:
            while not self.over.is_set():
                self._next_night()
                self.over.wait(self._every)
        except Exception as error:  # it must not pass for a good run
            self.faults.append(f"refresh {self.runs}: {error!r}")

    def _next_night(self) -> None:
        """One more event, a refresh that is killed, one that is not, and one that makes everything elsewhere."""
        self.runs += 1
        with (self._shop / "log.csv").open("a", encoding="utf-8") as log:
            log.write(f"u{self.runs % 4},a{1 + self.runs % 6},view,2024-04-01 10:00:{self.runs % 60:02}\n")
        if self.runs > 1:
            self._refresh("lake", self._random.uniform(0.3, 1.0) * self._seconds)
        started, again = time.monotonic(), f"again{self.runs}"
        codes = [self._refresh(lake, None) for lake in ("lake", again)]
        self._seconds = (time.monotonic() - started) / 2
        if any(codes):
            self.faults.append(f"refresh {self.runs} ended with exit codes {codes}")
        elif self._lists("lake") != self._lists(again):
            self.faults.append(f"refresh {self.runs}: the lists are not those of a lake that was never killed")
        shutil.rmtree(self._folder / again)

    def _refresh(self, lake: str, after: float | None) -> int:
        asked = [f"--dataset={self._shop / 'shop.toml'}", f"--data={self._shop}", f"--lake={self._folder / lake}"]
        asked += [f"--model={self._model}", "--run_date=2024-06-01", "--k=3"]
        clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYSPARK_PYTHON")}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": clean}
        job = subprocess.Popen([ROOT / "spark-submit.sh", "refresh_lake", *asked], start_new_session=True, **quiet)
        try:
            return job.wait(after)
        except subprocess.TimeoutExpired:
            os.killpg(job.pid, signal.SIGKILL)
            self.killed += 1
            return job.wait()

    def _lists(self, lake: str) -> list[dict]:
        rows = DeltaTable(str(self._folder / lake / "recommendations")).to_pyarrow_table()
        return rows.sort_by([("user_id", "ascending"), ("rank", "ascending")]).to_pylist()


def soaked(folder: Path, uri: str, asked: argparse.Namespace) -> dict:
    """Run everything, judge, and report."""
    deadline, notes = time.monotonic() + 60 * asked.minutes, folder / "notes"
    notes.mkdir()
    refreshes = Refreshes(folder, asked.seed, asked.jobs_every) if asked.jobs_every else None
    crew = Crew(uri, notes, asked.writers, asked.seed)
    if refreshes:
        refreshes.start()
    lake = Lake(uri)
    while time.monotonic() < deadline or (lake.version(SNAPSHOT) or 0) < asked.updates or _few(refreshes, asked):
        crew.disturb()
    faults = crew.stop()
    if refreshes:
        refreshes.over.set()
        refreshes.join()
        faults += refreshes.faults
    history = history_of(lake.table_uri(SNAPSHOT), lake.table_uri(LOG), sorted(notes.glob("*.json")))
    faults += faults_of(history)
    return {
        "minutes": asked.minutes, "seed": asked.seed, "kills": crew.kills, "versions": len(history.snapshots),
        "updates": sum(table == "snapshot" for table, *_ in history.acknowledged), "rows_of_log": len(history.log),
        "conflicts": sum(table == "conflict" for table, *_ in history.tried),
        "reads": sum(map(len, history.reads.values())), "refreshes": refreshes.runs if refreshes else 0,
        "refreshes_killed": refreshes.killed if refreshes else 0, "faults": faults[:20],
    }  # fmt: skip


def _few(refreshes: Refreshes | None, asked: argparse.Namespace) -> bool:
    return refreshes is not None and refreshes.is_alive() and refreshes.runs < asked.refreshes


@contextmanager
def bucket() -> Iterator[str]:
    """A lake on a moto server of our own; the environment tells every process where."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_ALLOW_HTTP": "true"}
    os.environ |= {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_REGION": "us-east-1"}
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/soak", method="PUT")).close()
    yield "s3://soak/lake"
    server.stop()


def main() -> None:
    """Soak and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--updates", type=int, default=0, help="go on until there are so many, on a slow machine")
    parser.add_argument("--refreshes", type=int, default=0, help="and so many refreshes")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--writers", type=int, default=3)
    parser.add_argument("--jobs_every", type=float, default=60)
    parser.add_argument("--s3", action="store_true")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        with bucket() if asked.s3 else nullcontext(str(folder / "writers")) as uri:
            report = soaked(folder, uri, asked)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(report))
    sys.exit(1 if report["faults"] else 0)


if __name__ == "__main__":
    main()
