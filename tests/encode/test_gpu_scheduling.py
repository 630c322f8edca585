"""Spark's scheduling of GPUs on a standalone worker with two, which exist only in its discovery script."""

import json
import os
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.standalone import start
from tests.conftest import ROOT
from tests.encode.gpu_cluster import TASKS


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    scratch = tmp_path_factory.mktemp("gpus")
    discovery, settings = scratch / "discovery.sh", scratch / "worker.conf"
    discovery.write_text("""#!/bin/sh\necho '{"name":"gpu","addresses":["0","1"]}'\n""", encoding="utf-8")
    discovery.chmod(0o755)
    settings.write_text(
        f"spark.worker.resource.gpu.amount 2\nspark.worker.resource.gpu.discoveryScript {discovery}\n", encoding="utf-8"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"spark://127.0.0.1:{port}"
    where = ("--host", "127.0.0.1", "--webui-port", "0")
    size = ("--cores", "2", "--memory", "2g", "-d", str(scratch / "work"), "--properties-file", str(settings))
    daemons = [start(scratch, "elected leader", "org.apache.spark.deploy.master.Master", *where, "--port", str(port))]
    try:
        worker = ("org.apache.spark.deploy.worker.Worker", url, *where, *size)
        daemons.append(start(scratch, "Successfully registered with master", *worker))
        yield url
    finally:
        for daemon in reversed(daemons):
            daemon.kill()
            daemon.wait()


def devices_of_pairs(master: str, way: str, executor: str, share: str, folder: Path) -> list[set[str]]:
    """The devices of each pair of tasks that ran at the same time, all in one executor."""
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    environment |= {"PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    command = [sys.executable, "-m", "tests.encode.gpu_cluster", master, way, executor, share, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    rows, pairs = json.loads(done.stdout.splitlines()[-1]), defaultdict(set)
    assert (len(rows), len({row["executor"] for row in rows})) == (TASKS, 1)
    for row in rows:
        pairs[row["pair"]].add(row["device"])
    return list(pairs.values())


@pytest.mark.slow
@pytest.mark.parametrize("way", ["application", "stage"])
def test_two_tasks_with_half_a_gpu_each_share_it(master: str, tmp_path: Path, way: str):
    pairs = devices_of_pairs(master, way, "1", "0.5", tmp_path)
    assert len(pairs) == TASKS // 2
    assert all(pair == pairs[0] for pair in pairs)
    assert pairs[0] in ({"cuda:0"}, {"cuda:1"})


@pytest.mark.slow
@pytest.mark.parametrize("way", ["application", "stage"])
def test_tasks_with_a_whole_gpu_each_never_share_one(master: str, tmp_path: Path, way: str):
    assert devices_of_pairs(master, way, "2", "1", tmp_path) == [{"cuda:0", "cuda:1"}] * (TASKS // 2)
