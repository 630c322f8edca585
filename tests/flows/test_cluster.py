"""A real standalone cluster: one master and two workers, processes of their own, from the Spark that pip installed."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from tests.bench.spark_submit import last_json, submit
from tests.bench.standalone import start
from tests.conftest import ROOT, data_folder

# The profile asks for more than a worker of this test offers, and Spark would wait for it for ever.
SIZE = ["--conf", "spark.executor.memory=1g", "--conf", "spark.executor.cores=1", "--conf", "spark.driver.memory=1g"]


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    scratch = tmp_path_factory.mktemp("cluster")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"spark://127.0.0.1:{port}"
    where = ("--host", "127.0.0.1", "--webui-port", "0")
    daemons = [start(scratch, "elected leader", "org.apache.spark.deploy.master.Master", *where, "--port", str(port))]
    for number in (1, 2):
        folder = scratch / f"work{number}"
        size = ("--cores", "1", "--memory", "2g", "-d", str(folder))
        worker = ("org.apache.spark.deploy.worker.Worker", url, *where, *size)
        daemons.append(start(scratch, "Successfully registered with master", *worker))
    yield url
    for daemon in reversed(daemons):
        daemon.kill()
        daemon.wait()


@pytest.mark.slow
def test_a_refresh_from_raw_files_to_lists_on_a_standalone_cluster(master: str, tmp_path: Path):
    lake = tmp_path / "lake"
    asked = ["--dataset=movielens_small", f"--data={data_folder('movielens-small')}", "--run_date=2018-01-01"]
    spark = ["--master", master, *SIZE]
    where = {"SPARK_PROFILE": "standalone", "RECSYS_PYTHON": sys.executable}
    done = submit("refresh_lake", *asked, f"--lake={lake}", "--", *spark, **where)
    assert done.returncode == 0, done.stderr[-3000:]
    report = last_json(done)
    assert (report["status"], report["tables"]["items"], report["tables"]["events"]) == ("done", 9742, 100836)
    assert DeltaTable(str(lake / "recommendations")).to_pyarrow_table().num_rows == report["tables"]["recommendations"]
    judged = submit("evaluate_recommendations", f"--lake={lake}", "--run_date=2018-01-01", "--", *spark, **where)
    assert judged.returncode == 0, judged.stderr[-3000:]
    assert last_json(judged)["users_evaluated"] > 0


def rows_without_run(lists: pa.Table) -> list[dict]:
    """All but the name of the run, which holds ids that Delta gives to the tables of a lake."""
    return lists.drop_columns(["model"]).to_pylist()


@pytest.mark.slow
def test_cluster_and_local_mode_publish_the_same_rows(master: str, shop: Path, tiny_bert: Path, tmp_path: Path):
    asked = [f"--dataset={shop / 'shop.toml'}", f"--data={shop}", "--run_date=2024-03-01", f"--model={tiny_bert}"]
    spark = ["--master", master, *SIZE]
    far = submit("refresh_lake", *asked, f"--lake={tmp_path / 'far'}", "--", *spark,
                 SPARK_PROFILE="standalone", RECSYS_PYTHON=sys.executable)  # fmt: skip
    near = submit("refresh_lake", *asked, f"--lake={tmp_path / 'near'}")
    assert (far.returncode, near.returncode) == (0, 0), far.stderr + near.stderr
    lists = [DeltaTable(str(tmp_path / place / "recommendations")).to_pyarrow_table() for place in ("far", "near")]
    order = [("user_id", "ascending"), ("rank", "ascending")]
    assert rows_without_run(lists[0].sort_by(order)) == rows_without_run(lists[1].sort_by(order))


def of_cluster(scratch: Path, name: str) -> list[int]:
    """Processes of the cluster below ``scratch`` whose command line holds ``name``."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            command = (process / "cmdline").read_bytes().decode(errors="replace")
            if name in command and str(scratch) in command + str((process / "cwd").readlink()):
                found.append(int(process.name))
    return found


@pytest.mark.slow
def test_a_killed_executor_and_a_killed_worker_change_no_row(master: str, shop: Path, tiny_bert: Path, tmp_path: Path,
                                                            tmp_path_factory: pytest.TempPathFactory):  # fmt: skip
    """The last test of this module: one worker is left behind it."""
    asked = [f"--dataset={shop / 'shop.toml'}", f"--data={shop}", "--run_date=2024-03-01", f"--model={tiny_bert}"]
    near = submit("refresh_lake", *asked, f"--lake={tmp_path / 'near'}")
    assert near.returncode == 0, near.stderr
    far = [
        str(ROOT / "spark-submit.sh"),
        "refresh_lake",
        *asked,
        f"--lake={tmp_path / 'far'}",
        "--",
        "--master",
        master,
    ]
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON")}
    where = clean | {"SPARK_PROFILE": "standalone", "RECSYS_PYTHON": sys.executable}
    job = subprocess.Popen([*far, *SIZE], env=where, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    scratch = tmp_path_factory.getbasetemp()
    for name in ("CoarseGrainedExecutorBackend", "deploy.worker.Worker"):
        while not (found := of_cluster(scratch, name)):
            assert job.poll() is None, "the job has ended before anything could be killed"
            time.sleep(0.05)
        os.kill(found[0], signal.SIGKILL)
        while not (tmp_path / "far" / "items" / "_delta_log").exists() and job.poll() is None:
            time.sleep(0.05)  # the worker dies after the first step
    assert job.wait() == 0, job.stderr.read()[-3000:]
    order = [("user_id", "ascending"), ("rank", "ascending")]
    lists = [DeltaTable(str(tmp_path / place / "recommendations")).to_pyarrow_table() for place in ("far", "near")]
    assert rows_without_run(lists[0].sort_by(order)) == rows_without_run(lists[1].sort_by(order))
