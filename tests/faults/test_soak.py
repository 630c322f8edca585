"""The soak run itself: its judge sees what must never happen, and a short run of it is clean."""

import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from tests.conftest import ROOT
from tests.faults.soak_history import History, faults_of

GOOD = {
    "snapshots": [{"w0": 1}, {"w0": 1, "w1": 1}, {"w0": 2, "w1": 1}],
    "log": Counter({("w0", 1): 1, ("w1", 1): 1}),
    "acknowledged": [("snapshot", "w0", 1), ("snapshot", "w1", 1), ("log", "w0", 1)],
    "tried": [("log", "w0", 1), ("log", "w1", 1), ("log", "w1", 2), ("snapshot", "w0", 2)],
    "reads": {"reader": [(0, {"w0": 1}), (0, {"w0": 1}), (2, {"w0": 2, "w1": 1})]},
}


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({}, None),
        ({"snapshots": [{"w0": 1}, {"w1": 1}, {"w0": 2, "w1": 1}]}, "became {'w1': 1}"),
        ({"snapshots": [{"w0": 1}, {"w0": 2, "w1": 1}, {"w0": 2, "w1": 1}]}, "snapshot version 1"),
        ({"acknowledged": [("snapshot", "w1", 2)]}, "update 2 of w1 is lost"),
        ({"acknowledged": [("log", "w1", 2)]}, "row ('w1', 2) of the log is lost"),
        ({"log": Counter({("w0", 1): 2})}, "row ('w0', 1) stands 2 times in the log"),
        ({"log": Counter({("w5", 1): 1})}, "row ('w5', 1) of the log was never written"),
        ({"reads": {"reader": [(2, {"w0": 2, "w1": 1}), (0, {"w0": 1})]}}, "reader read version 0 after 2"),
        ({"reads": {"reader": [(1, {"w0": 1})]}}, "reader read {'w0': 1} as version 1"),
        ({"reads": {"reader": [(9, {"w0": 1})]}}, "as version 9"),
    ],
)
def test_the_judge_of_a_history_sees_what_must_never_happen(broken, said):
    found = faults_of(History(**GOOD | broken))
    assert any(said in fault for fault in found) if said else found == [], found


def soaked(*arguments: str) -> dict:
    environment = os.environ | {"RECSYS_BENCHMARK": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "tests" / "faults" / "soak.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    report = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, report["faults"]) == (0, []), report
    return report


@pytest.mark.slow
def test_a_short_soak_run_finds_nothing():
    report = soaked("--minutes=1.5", "--jobs_every=1", "--updates=130", "--refreshes=2")
    least = {"kills": 20, "conflicts": 1, "updates": 100, "reads": 100, "refreshes": 2}
    assert not [name for name, number in least.items() if report[name] < number], report


@pytest.mark.slow
def test_a_short_soak_run_on_s3_finds_nothing():
    report = soaked("--minutes=0.5", "--jobs_every=0", "--s3", "--updates=35")
    assert min(report["kills"], report["updates"] / 4) > 5, report
