"""A training killed with SIGKILL and resumed ends with the loss curve and the weights of an undisturbed one."""

import json
import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT

SCRIPT = """
import hashlib, json, os, signal, sys
from pathlib import Path
from recsys_spark.training.kernels.checkpoints import Checkpoints
from recsys_spark.training.kernels.training_loop import train
from tests.bench.training import (PLAN, task_of)

folder, model, tuning, last = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
seen = 0

def report(record):
    global seen
    seen += 1
    if seen == last:
        os.kill(os.getpid(), signal.SIGKILL)

task = task_of(model, tuning)
trained = train(task, PLAN, Checkpoints(folder, "run"), report)
total = hashlib.sha256()
for name, value in sorted(task.module.state_dict().items()):
    total.update(name.encode() + value.numpy().tobytes())
print(json.dumps({"records": trained.records, "weights": total.hexdigest()}))
"""


def start(folder, model, last):
    command = [sys.executable, "-c", SCRIPT, str(folder), str(model), "lora", str(last)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.slow
def test_a_killed_training_ends_as_one_that_was_not(tmp_path, tiny_bert):
    whole = start(tmp_path / "whole", tiny_bert, 0)
    assert whole.returncode == 0, whole.stderr
    for last in (6, 11):
        assert start(tmp_path / "killed", tiny_bert, last).returncode == -signal.SIGKILL
    again = start(tmp_path / "killed", tiny_bert, 0)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == json.loads(whole.stdout)
